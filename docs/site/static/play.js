// Beat the machine: five unfamiliar characters, and which of them is this? With the mouse, or with the keys 1 to 5.

import { element } from "./charts.js";
import { accuracies, byTask, compare, loadTasks, overTasks, playMachines, NEAREST, QUERIES, readState, SETS, TASKS, WAYS, writeState } from "./contest.js";
import { paint, sheet } from "./stored.js";

const COLOURS = { you: "#E69F00", MAML: "#0072B2", CxGrad: "#D55E00" }, COMPARES = "#7F7F7F";
const shape = (name, attributes, children = []) => element(name, attributes, children, true);
const button = (label, onclick, attributes = {}) => element("button", { type: "button", onclick, ...attributes }, label);

/** A bar with its interval for everybody; `results` has name → {mean, ci95}, fractions. */
function bars(results) {
  const left = 88, wide = 170, row = 26, height = row * Object.keys(results).length + 20, x = (share) => left + wide * Math.min(share, 1);
  const marks = Object.entries(results).flatMap(([name, { mean, ci95 }], i) => {
    const y = 20 + row * i, middle = y + 9;
    return [
      shape("text", { x: left - 6, y: middle + 4, "text-anchor": "end" }, name),
      shape("rect", { x: left, y, width: x(mean) - left, height: 18, fill: COLOURS[name] ?? COMPARES, "data-name": name, "data-mean": mean, "data-ci": ci95 }),
      shape("line", { x1: x(Math.max(0, mean - ci95)), x2: x(mean + ci95), y1: middle, y2: middle, stroke: "#222222", "stroke-width": 2 }),
      shape("text", { x: left + wide + 6, y: middle + 4 }, `${(100 * mean).toFixed(1)} ± ${(100 * ci95).toFixed(1)}`),
    ];
  });
  const chance = x(1 / WAYS);
  marks.push(shape("line", { x1: chance, x2: chance, y1: 14, y2: height, stroke: "currentColor", "stroke-dasharray": "2 3" }));
  marks.push(shape("text", { x: chance, y: 10, "text-anchor": "middle" }, "chance"));
  const told = Object.entries(results).map(([name, { mean }]) => `${name} ${(100 * mean).toFixed(0)}`).join(", ");
  return shape("svg", { viewBox: `0 0 330 ${height}`, role: "img", "aria-label": `Accuracy in percent: ${told}.`, class: "cx-chart" }, marks);
}

class Game {
  constructor(root, { tasks, methods }) {
    Object.assign(this, { root, folder: tasks, weights: JSON.parse(methods), state: readState(location.hash), going: false });
    this.names = [NEAREST, ...Object.keys(this.weights)];
    addEventListener("hashchange", () => this.go(readState(location.hash)));
    addEventListener("keydown", (event) => this.press(event));
    this.load();
  }

  build() {
    this.heading = element("p", { class: "cx-heading", role: "status", tabindex: -1 });
    this.tiles = Array.from({ length: WAYS }, (_, i) => button([sheet(), element("span", {}, String(i + 1))], () => this.answer(i + 1), { class: "cx-tile", "aria-label": `${i + 1}: it is this character` }));
    this.query = sheet({ role: "img", "aria-label": "the drawing to be read" });
    this.next = button("next task", () => { this.go(this.state, true); this.heading.focus({ preventScroll: true }); }, { class: "cx-go" });
    [this.review, this.result, this.code] = [element("div"), element("div"), element("code")];
    this.hint = element("p", {}, "Press 1 to 5, or the character.");
    const others = element("div", { class: "cx-row" }, [
      this.next, button("start again", () => this.go({ ...this.state, answers: "" })),
      button("ten other tasks", () => this.go({ set: (this.state.set % SETS) + 1, answers: "" })),
    ]);
    const parts = [this.heading, element("div", { class: "cx-tiles" }, this.tiles), this.query, this.result, this.review, this.hint, others];
    this.root.replaceChildren(element("div", { class: "cx-draw" }, [...parts, element("p", {}, ["In Python: ", this.code])]));
  }

  async load() {
    this.stop?.();
    this.tasks = null;
    this.rows = Object.fromEntries(this.names.map((name) => [name, Array.from({ length: TASKS }, () => [])]));
    const { set } = this.state, tasks = await loadTasks(`${this.folder}contest-${set}.json`).catch((error) => this.fail(error.message));
    if (!tasks || set !== this.state.set) return; // the reader has gone on to others
    if (!this.heading) this.build();
    this.tasks = tasks;
    const hear = (name, t, q, answer) => { this.rows[name][t][q] = answer; if (this.resting) this.showAnswers(); };
    this.stop = playMachines(this.weights, tasks, hear, (message) => this.fail(message));
    this.show();
  }

  /** Another state; `going` on from the answers to a task to the next one. */
  go(state, going = false) {
    const other = state.set !== this.state.set;
    Object.assign(this, { state, going });
    history.replaceState(null, "", writeState(state));
    if (other) this.load();
    else if (this.tasks) this.show();
  }

  press(event) {
    const outside = event.target !== document.body && !this.root.contains(event.target);
    if (outside || event.ctrlKey || event.altKey || event.metaKey || event.repeat || !/^[1-5]$/.test(event.key)) return;
    event.preventDefault();
    this.answer(Number(event.key));
  }

  answer(number) {
    if (!this.tasks || this.resting) return;
    this.go({ ...this.state, answers: this.state.answers + number });
    if (this.resting) this.next.focus({ preventScroll: true });
  }

  /** Between two tasks, or at the end: nothing is asked. */
  get resting() {
    const { length } = this.state.answers;
    return length > 0 && length % QUERIES === 0 && !(this.going && length < TASKS * QUERIES);
  }

  get ended() {
    return this.state.answers.length === TASKS * QUERIES;
  }

  show() {
    const { set, answers } = this.state, { resting, ended } = this, shown = Math.floor((answers.length - Number(resting)) / QUERIES);
    const task = this.tasks[shown], asked = answers.length % QUERIES;
    this.heading.textContent = ended ? "Ten tasks are done." : resting ? `Task ${shown + 1} of ${TASKS} is done: who was right?`
      : `Task ${shown + 1} of ${TASKS}, drawing ${asked + 1} of ${QUERIES}: which of the five is it?`;
    this.tiles.forEach((tile, i) => { paint(tile.firstChild, task.support[i]); tile.disabled = resting; });
    this.query.hidden = resting;
    if (!resting) paint(this.query, task.query[asked]);
    this.next.hidden = !resting || ended;
    this.code.textContent = `beat_the_machine(${set}, "${byTask(answers).join("-")}")`;
    this.hint.hidden = resting;
    this.showAnswers();
  }

  /** After a task: everybody's answers to it; after the last one, how good everybody was. */
  showAnswers() {
    this.review.replaceChildren(...(this.resting ? [this.table()] : []));
    const known = this.names.filter((name) => this.rows[name].every((row) => row.filter((answer) => answer !== undefined).length === QUERIES));
    this.result.replaceChildren(...(this.ended ? this.outcome(known) : []));
  }

  mine() {
    return byTask(this.state.answers).map((digits) => Array.from(digits, (digit) => Number(digit) - 1));
  }

  table() {
    const mine = this.mine(), t = mine.length - 1, { query, labels } = this.tasks[t];
    const cell = (answer, q) => element("td", answer === undefined ? {} : { class: answer === labels[q] ? "cx-right-answer" : "cx-wrong-answer" },
      answer === undefined ? "…" : `${answer + 1} ${answer === labels[q] ? "✓" : "✗"}`);
    const row = (name, answers) => element("tr", {}, [element("th", { scope: "row" }, name), ...labels.map((_, q) => cell(answers[q], q))]);
    const head = query.map((image, q) => element("th", { scope: "col" }, paint(sheet({ role: "img", "aria-label": `drawing ${q + 1}, character ${labels[q] + 1}` }), image)));
    const truth = element("tr", {}, [element("th", { scope: "row" }, "it was"), ...labels.map((label) => element("td", {}, String(label + 1)))]);
    const rows = [["you", mine[t]], ...this.names.map((name) => [name, this.rows[name][t]])];
    return element("table", { class: "cx-answers" }, [element("tr", {}, [element("td"), ...head]), truth, ...rows.map(([name, answers]) => row(name, answers))]);
  }

  outcome(known) {
    const mine = accuracies(this.mine(), this.tasks), theirs = Object.fromEntries(known.map((name) => [name, accuracies(this.rows[name], this.tasks)]));
    const results = Object.fromEntries(Object.entries({ you: mine, ...theirs }).map(([name, shares]) => [name, overTasks(shares)]));
    const right = Math.round(results.you.mean * TASKS * QUERIES), all = TASKS * QUERIES;
    const words = [`You read ${right} of ${all} drawings rightly. The differences, task by task:`], after = [];
    if (right === all) after.push(`Your interval has no width, because no task went wrong. That is no certainty: somebody who errs in 6 % of all drawings still gets ${all} of them right in one game of twenty.`);
    if (known.length < this.names.length && !this.failed) after.push("The other methods are still adapting.");
    after.push("The address of this page now holds your game: send it to a friend who might beat you.");
    const list = element("ul", {}, known.map((name) => element("li", {}, compare(name, mine, theirs[name]))));
    const say = (texts) => texts.map((text) => element("p", {}, text));
    return [bars(results), ...say(words), list, ...say(after)];
  }

  /** What keeps some or all of the others from playing. */
  fail(message) {
    this.failed = true;
    this.root.append(element("p", { role: "alert" }, message));
  }
}

export function fillGames() {
  for (const root of document.querySelectorAll(".cx-game")) root.game = new Game(root, root.dataset);
}
