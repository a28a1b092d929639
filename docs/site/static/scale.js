// Multiply one layer by a, and see what stays and what changes: `scale_explorer()` without a kernel. The state of the
// dial is part of the page's address, so that it can be sent to somebody.

import { element, layerBars, LAYERS } from "./charts.js";
import { readMethod } from "./methods.js";

const LOW = 0.1, HIGH = 10, FIRST = { layer: "block 4", a: 1 };
const weightOf = (layer) => (layer === "head" ? "net.head.weight" : `net.blocks.${LAYERS.indexOf(layer)}.conv.weight`);

/** `#layer=block-2&a=3.5` to a state; what is missing or makes no sense is as at first. */
export function readState(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, "")), layer = (given.get("layer") ?? "").replace("-", " ");
  const a = Number(given.get("a") ?? NaN);
  return { layer: LAYERS.includes(layer) ? layer : FIRST.layer, a: a >= LOW && a <= HIGH ? a : FIRST.a };
}

export const writeState = ({ layer, a }) => `#layer=${layer.replace(" ", "-")}&a=${a}`;

const inPython = ({ layer, a }) => `panel = scale_explorer(); panel.layer.value, panel.a.value = "${layer}", ${a}; panel`;

/** Logits and the gradient norm of each layer's weight, with one layer multiplied by a. */
export function look(method, task, { layer, a }) {
  const name = weightOf(layer), theta = { ...method.tensors, [name]: method.tensors[name].map((value) => a * value) };
  const { grads } = method.gradients(theta, task);
  return { logits: method.logits(theta, task.images), norms: LAYERS.map((other) => Math.hypot(...grads[weightOf(other)])) };
}

class ScaleDial {
  constructor(root, method, task) {
    Object.assign(this, { method, task, state: readState(location.hash) });
    this.layer = element("select", { "aria-label": "layer" }, LAYERS.map((layer) => element("option", { value: layer }, layer)));
    this.dial = element("input", { type: "range", min: -1, max: 1, step: 0.02, "aria-label": "a, from 0.1 to 10" });
    this.figure = element("figure");
    this.words = element("p", { role: "status" });
    this.code = element("code");
    this.layer.addEventListener("change", () => this.turn({ layer: this.layer.value }));
    this.dial.addEventListener("input", () => this.turn({ a: Number((10 ** Number(this.dial.value)).toPrecision(3)) }));
    addEventListener("hashchange", () => { this.state = readState(location.hash); this.show(); });
    const row = element("div", { class: "cx-row" }, [element("label", {}, ["multiply ", this.layer]), element("label", {}, ["by a ", this.dial])]);
    root.replaceChildren(element("div", { class: "cx-draw" }, [row, this.words, this.figure, element("p", {}, ["In Python: ", this.code])]));
    this.show();
  }

  turn(change) {
    this.state = { ...this.state, ...change };
    history.replaceState(null, "", writeState(this.state));
    this.show();
  }

  show() {
    const { layer, a } = this.state, now = look(this.method, this.task, this.state), at1 = look(this.method, this.task, { layer, a: 1 });
    Object.assign(this.layer, { value: layer });
    this.dial.value = Math.log10(a);
    const moved = Math.max(...now.logits.map((value, i) => Math.abs(value - at1.logits[i]))), i = LAYERS.indexOf(layer);
    this.words.textContent = `a = ${a}: the largest change of a logit is ${moved.toPrecision(2)}; `
      + `the gradient norm of ${layer} is ${(now.norms[i] / at1.norms[i]).toPrecision(3)} times what it was (1/a is ${(1 / a).toPrecision(3)}).`;
    this.figure.replaceChildren(element("figcaption", {}, "gradient norm of each layer (grey: at a = 1)"), layerBars(now.norms, at1.norms, `Gradient norm at a = ${a}`));
    this.code.textContent = inPython(this.state);
  }
}

export async function fillScale() {
  for (const root of document.querySelectorAll(".cx-scale")) {
    const [weights, task] = await Promise.all([fetch(root.dataset.weights), fetch(root.dataset.task)]);
    const { images, labels } = await task.json();
    root.dial = new ScaleDial(root, readMethod(await weights.arrayBuffer()), { images: Float64Array.from(images), labels });
  }
}
