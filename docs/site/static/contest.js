// Ten tasks for the reader and for four methods: what has been answered, by whom, and how good it was. The same game as
// `beat_the_machine` of the notebooks; play.js shows it.

import { bytesOf, load, oneByOne } from "./stored.js";

export const TASKS = 10, QUERIES = 5, WAYS = 5, SETS = 5, NEAREST = "nearest pixels";
const ALL = TASKS * QUERIES;

/** `#set=2&answers=13245-2` to a state; what makes no sense is as at first. */
export function readState(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, "")), set = Number(given.get("set"));
  const answers = (given.get("answers") ?? "").replaceAll("-", "");
  const known = Number.isInteger(set) && set >= 1 && set <= SETS;
  return { set: known ? set : 1, answers: known && answers.length <= ALL && /^[1-5]*$/.test(answers) ? answers : "" };
}

export const byTask = (answers) => answers.match(/.{1,5}/g) ?? [];
export const writeState = ({ set, answers }) => `#set=${set}&answers=${byTask(answers).join("-")}`;

/** Stored tasks: support and query images as arrays of bytes, and the query images' labels. */
export async function loadTasks(address) {
  const images = (text) => oneByOne(bytesOf(text));
  return (await load(address, "The tasks")).map(({ support, query, labels }) => ({ support: images(support), query: images(query), labels }));
}

const least = (values) => values.indexOf(Math.min(...values));
const nearest = (support, image) => least(support.map((known) => known.reduce((sum, ink, i) => sum + (ink - image[i]) ** 2, 0)));
const batch = (images) => Float64Array.from(images.flatMap((image) => Array.from(image, (ink) => ink / 255)));

/** Lets every method answer, one query image at a time; `hear(method, task, query, answer)`. Returns a function that stops. */
export function playMachines(weights, tasks, hear, fail) {
  tasks.forEach(({ support, query }, t) => query.forEach((image, q) => hear(NEAREST, t, q, nearest(support, image))));
  if (!globalThis.Worker) {
    fail("This browser has no web workers, in which the networks adapt: you can play, but only against the nearest pixels.");
    return () => {};
  }
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" }), heard = {};
  const names = new Map(Object.entries(weights).map(([name, address]) => [new URL(address, location.href).href, name]));
  worker.onerror = () => fail("The part of this page that adapts could not be loaded: reload the page.");
  worker.onmessage = ({ data: { address, logits, error } }) => {
    if (error) return fail(error);
    if (!logits) return undefined; // an inner step was made
    const count = heard[address] ?? 0, row = Array.from(logits[0].slice(-WAYS)); // the query image is the last of its batch
    heard[address] = count + 1;
    return hear(names.get(address), Math.floor(count / QUERIES), count % QUERIES, least(row.map((logit) => -logit)));
  };
  for (const { support, query } of tasks)
    for (const address of names.keys()) {
      worker.postMessage({ ask: "adapt", address, support: { images: batch(support), labels: [0, 1, 2, 3, 4] } });
      for (const image of query) worker.postMessage({ ask: "answer", address, images: batch([...support, image]), last: true });
    }
  return () => worker.terminate();
}

/** Mean of one number for each task, and half the width of its 95 % interval over tasks: `Evaluation.over_tasks`. */
export function overTasks(perTask) {
  const n = perTask.length, mean = perTask.reduce((sum, value) => sum + value, 0) / n;
  const squares = perTask.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, ci95: 1.96 * Math.sqrt(squares / (n - 1) / n) };
}

/** Share of right answers in each task. */
export const accuracies = (rows, tasks) => tasks.map(({ labels }, t) => labels.filter((label, q) => rows[t][q] === label).length / labels.length);

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;

/** What ten tasks say about two accuracies per task, in words. */
export function compare(name, mine, theirs) {
  const { mean, ci95 } = overTasks(mine.map((value, t) => 100 * (value - theirs[t])));
  const verdict = Math.abs(mean) <= ci95 ? "too close to call" : mean > 0 ? "you are ahead" : `${name} is ahead`;
  return `you minus ${name}: ${signed(mean)} ± ${ci95.toFixed(1)} points, ${verdict}`;
}
