// Multiply one layer by a, and see what stays and what changes: `scale_explorer()` without a kernel.

import { layerBars, LAYERS } from "./charts.js";
import { Dials } from "./dials.js";
import { readMethod } from "./methods.js";
import { bytesOf, load } from "./stored.js";

export const FIELDS = [
  { name: "layer", label: "layer", before: "multiply", choices: LAYERS, first: "block 4" },
  { name: "a", label: "a, from 0.1 to 10", before: "by a", low: 0.1, high: 10, step: 0.02, log: true, first: 1 },
];
const weightOf = (layer) => (layer === "head" ? "net.head.weight" : `net.blocks.${LAYERS.indexOf(layer)}.conv.weight`);

/** Logits and the gradient norm of each layer's weight, with one layer multiplied by a. */
export function look(method, task, { layer, a }) {
  const name = weightOf(layer), theta = { ...method.tensors, [name]: method.tensors[name].map((value) => a * value) };
  const { grads } = method.gradients(theta, task);
  return { logits: method.logits(theta, task.images), norms: LAYERS.map((other) => Math.hypot(...grads[weightOf(other)])) };
}

function show(method, task, state) {
  const { layer, a } = state, now = look(method, task, state), at1 = look(method, task, { layer, a: 1 });
  const moved = Math.max(...now.logits.map((value, i) => Math.abs(value - at1.logits[i]))), i = LAYERS.indexOf(layer);
  return {
    words: `a = ${a}: the largest change of a logit is ${moved.toPrecision(2)}; the gradient norm of ${layer} is `
      + `${(now.norms[i] / at1.norms[i]).toPrecision(3)} times what it was (1/a is ${(1 / a).toPrecision(3)}).`,
    figures: [["gradient norm of each layer (grey: at a = 1)", layerBars(now.norms, at1.norms, `Gradient norm at a = ${a}`)]],
    python: `panel = scale_explorer(); panel.layer.value, panel.a.value = "${layer}", ${a}; panel`,
  };
}

export async function fillScale() {
  for (const root of document.querySelectorAll(".cx-scale")) {
    const [weights, { images, labels }] = await Promise.all([fetch(root.dataset.weights), load(root.dataset.task, "The images")]);
    const method = readMethod(await weights.arrayBuffer()), task = { images: Float64Array.from(new Float32Array(bytesOf(images).buffer)), labels };
    root.dial = new Dials(root, FIELDS, (state) => show(method, task, state));
  }
}
