// Four norms to be set by hand, and what an adaptation does with them: `gamma_dials(…)` without a kernel, on one task.

import { layerBars, LAYERS } from "./charts.js";
import { Dials, plot } from "./dials.js";
import { bytesOf, load } from "./stored.js";
import { MAML, readMethod, setNorms } from "./methods.js";

const START = 0.693;
export const FIELDS = LAYERS.slice(0, 4).map((block, i) => ({ name: `g${i + 1}`, label: `γ of ${block}`, low: 0.01, high: 20, step: 0.05, log: true, first: START }));
const norm = (values) => Math.hypot(...values);
const kernelOf = (i) => `net.blocks.${i}.conv.weight`;
/** Norm of all that is fast in a layer: its weight, and the head's bias. */
const layerNorm = (tensors, i) => norm(i === 4 ? [...tensors["net.head.weight"], ...tensors["net.head.bias"]] : tensors[kernelOf(i)]);

function accuracy(method, theta, { images, labels }) {
  const logits = method.logits(theta, images), ways = logits.length / labels.length;
  const right = labels.filter((label, i) => {
    const row = Array.from(logits.subarray(i * ways, (i + 1) * ways));
    return row.indexOf(Math.max(...row)) === label;
  });
  return (100 * right.length) / labels.length;
}

/** Gradient norm and relative step α‖g‖/‖W‖ (%) of each layer at first, and accuracy (%) before and after each inner step. */
export function adapt(method, { support, query }, gammas) {
  let theta = method.tensors, first = null;
  const accuracies = [accuracy(method, theta, query)];
  for (let k = 0; k < method.inner_steps; k++) {
    const scaled = setNorms(theta, gammas), { theta: after, grads } = MAML.prototype.step.call(method, scaled, support, k);
    const norms = LAYERS.map((_, i) => layerNorm(grads, i));
    first ??= { norms, relative: norms.map((value, i) => (100 * method.inner_lr * value) / layerNorm(scaled, i)) };
    theta = after;
    accuracies.push(accuracy(method, theta, query));
  }
  return { ...first, accuracies };
}

function show(method, task, constant, state) {
  const gammas = FIELDS.map(({ name }) => state[name]), now = adapt(method, task, gammas), steps = now.accuracies.map((_, k) => k);
  const [before, after] = [constant, now].map(({ accuracies }) => accuracies[accuracies.length - 1].toFixed(0));
  const lines = [{ x: steps, y: constant.accuracies, colour: "#7F7F7F", dashed: true, points: true }, { x: steps, y: now.accuracies, colour: "#D55E00", points: true }];
  const told = `Accuracy after each step: ${now.accuracies.map((value) => value.toFixed(0)).join(", ")} %.`;
  return {
    words: `γ = ${gammas.join(", ")}: the first step moves block 4 by ${now.relative[3].toPrecision(3)} % of its norm; ${after} % right after ${steps.length - 1} steps, where four times 0.69 gives ${before} %.`,
    figures: [["gradient norm in the first step (grey: all γ at 0.69)", layerBars(now.norms, constant.norms, "Gradient norm")],
      ["relative step at first, % of the weight's norm", layerBars(now.relative, constant.relative, "Relative step in percent")],
      ["accuracy on the 75 query images after each step, %", plot(lines, [0, steps.length - 1], [0, 100], told)]],
    python: `panel = gamma_dials(cxgrad, test, episodes=1); for slider, value in zip(panel.gamma, (${gammas.join(", ")})): slider.value = value`,
  };
}

export async function fillGammas() {
  for (const root of document.querySelectorAll(".cx-gammas")) {
    const [weights, stored] = await Promise.all([fetch(root.dataset.weights), load(root.dataset.task, "The task")]);
    const method = readMethod(await weights.arrayBuffer());
    const batch = ({ images, labels }) => ({ images: Float64Array.from(bytesOf(images), (byte) => byte / 255), labels });
    const task = { support: batch(stored.support), query: batch(stored.query) }, constant = adapt(method, task, Array(4).fill(START));
    root.dial = new Dials(root, FIELDS, (state) => show(method, task, constant, state), true);
  }
}
