// One task, inner step by inner step: `watch_adaptation(…)` without a kernel, for MAML and CxGrad. There are only twelve
// states, so they are stored, and nothing is computed here: .ci/build_site.py writes them.

import { element, layerLines } from "./charts.js";
import { Dials, plot } from "./dials.js";
import { bytesOf, load, oneByOne, paint, sheet } from "./stored.js";

const RIGHT = "#009E73", WRONG = "#D55E00";
export const FIELDS = [
  { name: "method", label: "method", choices: ["MAML", "CxGrad"], first: "CxGrad" },
  { name: "step", label: "inner steps", low: 0, high: 5, step: 1, first: 2 },
];

function thumbnail(image, told, right) {
  const canvas = sheet({ style: `outline: 3px solid ${right ? RIGHT : WRONG}`, role: "img", "aria-label": told });
  return element("div", {}, [paint(canvas, image), element("span", {}, told)]);
}

/** The images that the notebook's panel shows: a column for each class. */
function thumbnails({ answers, shown }, { images, labels }, k) {
  const told = (i) => {
    const [was, is] = [answers[Math.max(k - 1, 0)][i], answers[k][i]];
    return `${labels[i]}: ${was === is ? is : `${was}→${is}`}`;
  };
  const columns = [...new Set(labels)].map((c) => element("div", {}, shown.filter((i) => labels[i] === c).map((i) =>
    thumbnail(images[i], told(i), answers[k][i] === labels[i]))));
  return element("div", { class: "cx-thumbnails" }, columns);
}

function show(stored, query, { method, step: k }) {
  const { answers, losses, norms, scaling } = stored[method], steps = losses.map((_, i) => i), { labels } = query;
  const right = answers.map((row) => row.filter((answer, i) => answer === labels[i]).length), shares = right.map((count) => (100 * count) / labels.length);
  const over = (y, top, label) => plot([{ x: steps, y, colour: "#0072B2" }, { x: [k], y: [y[k]], colour: "#0072B2", points: true }], [0, steps.length - 1], [0, top], label);
  const words = `After ${k} of ${steps.length - 1} inner steps ${method} reads ${right[k]} of the ${labels.length} query images rightly, and its loss on the support images is ${losses[k].toPrecision(2)}`
    + (k ? `; before the first step it was ${right[0]} images and a loss of ${losses[0].toPrecision(2)}.` : ".");
  const figures = [
    [`query images after ${k} steps, true class: answer (a→b: just changed)`, thumbnails(stored[method], query, k)],
    ["query images read rightly, %", over(shares, 100, `Accuracy over the inner steps: ${shares.map(Math.round).join(", ")} %.`)],
    ["loss on the support images", over(losses, Math.ceil(Math.max(...losses)), `Loss over the inner steps: ${losses.map((loss) => loss.toPrecision(2)).join(", ")}.`)],
  ];
  const lines = (series, what) => layerLines(series.map((line) => line.slice(0, k)), what, steps.length - 1);
  if (k) figures.push(["gradient norm of each layer, in each step so far", lines(norms, "Gradient norm")]);
  if (k && scaling.length) figures.push(["γ of each block, in each step so far", lines(scaling, "γ")]);
  return { words, figures, python: `panel = watch_adaptation(nets["7 × 7"]["${method}, α = 0.01"], (support, query)); panel.step.value = ${k}; panel` };
}

export async function fillSteps() {
  for (const root of document.querySelectorAll(".cx-steps")) {
    const [stored, task] = await Promise.all([load(root.dataset.steps, "The steps"), load(root.dataset.task, "The task")]);
    const query = { images: oneByOne(bytesOf(task.query.images)), labels: task.query.labels };
    root.dial = new Dials(root, FIELDS, (state) => show(stored, query, state));
  }
}
