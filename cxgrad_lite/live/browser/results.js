// What one method makes of the drawings: its answer before and after each inner step, gradient norms, and γ.

import { answerBars, CLASS_COLOURS, element, layerLines, LAYERS } from "./charts.js";
import { NAMES } from "./sheet.js";

/** Norm of each layer's gradient, from the norms of its tensors. */
const layerNorms = (gradNorms) => LAYERS.map((_, layer) => {
  const part = layer === 4 ? "net.head." : `net.blocks.${layer}.`;
  return Math.hypot(...Object.entries(gradNorms).filter(([name]) => name.startsWith(part)).map(([, value]) => value));
});

const byLayer = (rows) => Array.from(rows[0], (_, layer) => rows.map((row) => row[layer]));

export class Results {
  constructor(method) {
    this.method = method;
    this.charts = element("div");
    this.root = element("section", { "aria-label": method }, [element("h3", {}, method), this.charts]);
    this.forget();
  }

  forget() {
    Object.assign(this, { steps: [], answers: null, sentence: "" });
    this.show();
  }

  /** What was seen in inner step `k`; k = 0 is the state before the first one. */
  addStep(k, trace) {
    this.steps = k === 0 ? [] : [...this.steps, trace];
    this.show();
  }

  /** (steps + 1, ways) probabilities of the characters `names`. */
  setAnswers(answers, names) {
    Object.assign(this, { answers, names });
    const [before, after] = [answers[0], answers.at(-1)].map((row) => names[row.indexOf(Math.max(...row))]);
    this.sentence = `${this.method} reads ${after}${answers.length > 1 ? ` (before adapting: ${before})` : ""}`;
    this.show();
  }

  show() {
    const made = [], figure = (caption, chart) => made.push(element("figure", {}, [element("figcaption", {}, caption), chart]));
    if (this.answers) {
      const colours = this.names.map((name) => CLASS_COLOURS[NAMES.indexOf(name)]);
      figure("answer, before and after each inner step", answerBars(this.answers, this.names, colours));
    }
    if (this.steps.length) {
      const room = Math.max(5, this.steps.length), norms = byLayer(this.steps.map((step) => layerNorms(step.gradNorms)));
      figure("gradient norm of each layer, in each inner step", layerLines(norms, "Gradient norm", room));
      if (this.steps[0].scaling)
        figure("γ of each block, in each inner step", layerLines(byLayer(this.steps.map((step) => step.scaling)), "γ", room));
    }
    this.charts.replaceChildren(...made);
  }
}
