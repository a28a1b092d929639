// One filter of two numbers, with and without batch norm: the loss over all filters, and the way downhill from one.

import { element } from "./charts.js";
import { Dials, plot } from "./dials.js";
import { load } from "./stored.js";

const WITH = "with batch norm", HALF = 3, SIDE = 41, SIZE = 246, ARROW = 10;
export const FIELDS = [
  { name: "norm", label: "the score", before: "the score z", choices: [WITH, "without batch norm"], first: WITH },
  { name: "angle", label: "direction of w in degrees", low: 0, high: 359, step: 1, first: 20 },
  { name: "length", label: "length of w", low: 0.4, high: 2.8, step: 0.01, first: 1.3 },
];
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const filter = ({ angle, length }) => [angle, angle - 90].map((degrees) => length * Math.cos((degrees * Math.PI) / 180));

/** Mean logistic loss of the points at a filter w, and its gradient: `toy_loss` of notebook 04. */
export function lossAt({ points, labels }, w, normalised) {
  const raw = points.map((x) => x[0] * w[0] + x[1] * w[1]), middle = normalised ? mean(raw) : 0;
  const deviation = normalised ? Math.sqrt(mean(raw.map((z) => (z - middle) ** 2)) + 1e-12) : 1;
  const scores = raw.map((z) => (z - middle) / deviation), signs = labels.map((label) => 1 - 2 * label);
  const loss = mean(scores.map((z, i) => Math.max(z * signs[i], 0) + Math.log1p(Math.exp(-Math.abs(z * signs[i])))));
  let back = scores.map((z, i) => signs[i] / (1 + Math.exp(-z * signs[i])) / scores.length);
  if (normalised) {
    const off = mean(back), along = mean(back.map((d, i) => d * scores[i]));
    back = back.map((d, i) => (d - off - scores[i] * along) / deviation);
  }
  return { loss, gradient: [0, 1].map((k) => back.reduce((sum, d, i) => sum + d * points[i][k], 0)) };
}

const place = (value) => ((value + HALF) / (2 * HALF)) * SIZE;
const shape = (name, attributes) => element(name, attributes, [], true);

/** The plane of all filters, dark where the loss is small. */
function ground(task, normalised) {
  const steps = Array.from({ length: SIDE }, (_, i) => -HALF + (2 * HALF * (i + 0.5)) / SIDE), cell = SIZE / SIDE;
  const losses = steps.flatMap((y) => steps.map((x) => ({ x, y, loss: lossAt(task, [x, y], normalised).loss })));
  const low = Math.min(...losses.map(({ loss }) => loss)), high = Math.max(...losses.map(({ loss }) => loss));
  return element("g", {}, losses.map(({ x, y, loss }) => {
    const light = 30 + (65 * (loss - low)) / (high - low);
    return shape("rect", { x: place(x) - cell / 2, y: place(-y) - cell / 2, width: cell + 0.4, height: cell + 0.4, fill: `hsl(210 55% ${light.toFixed(0)}%)` });
  }), true);
}

/** The plane, with w and the way downhill from it. */
function plane(below, w, gradient, label) {
  const line = (from, to, colour, width) => shape("line", { x1: place(from[0]), y1: place(-from[1]), x2: place(to[0]), y2: place(-to[1]), stroke: colour, "stroke-width": width });
  const end = w.map((value, k) => value - ARROW * gradient[k]);
  const marks = [below, line([0, 0], w, "#000", 1), line(w, end, "#C77F00", 4), shape("circle", { cx: place(w[0]), cy: place(-w[1]), r: 5, fill: "#000" })];
  return element("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img", "aria-label": label, class: "cx-chart" }, marks, true);
}

function show(task, grounds, state) {
  const normalised = state.norm === WITH, w = filter(state), { loss, gradient } = lossAt(task, w, normalised);
  const size = Math.hypot(...gradient), cosine = -(gradient[0] * w[0] + gradient[1] * w[1]) / (size * state.length);
  const turn = (Math.acos(Math.min(1, Math.max(-1, cosine))) * 180) / Math.PI;
  const words = `The loss is ${loss.toFixed(4)}, the length of the gradient ${size.toFixed(4)}, and downhill lies at `
    + `${turn.toFixed(0)}° to w (orange).`;
  const lengths = Array.from({ length: 60 }, (_, i) => 0.4 + (2.4 * i) / 59);
  const along = lengths.map((length) => lossAt(task, filter({ ...state, length }), normalised));
  const curves = [{ x: lengths, y: along.map((at) => at.loss), colour: "#0072B2" },
    { x: lengths, y: along.map((at) => Math.hypot(...at.gradient)), colour: "#C77F00", dashed: true },
    { x: [state.length], y: [loss], colour: "#000", points: true }];
  const text = w.map((value) => value.toPrecision(6)).join(", ");
  return {
    words,
    figures: [["the loss over all filters w, dark where it is small", plane(grounds[state.norm], w, gradient, words)],
      ["along the ray through w: loss (blue) and length of the gradient (dashed)", plot(curves, [0.4, 2.8], [0, 1.5], words)]],
    python: `w = torch.tensor([[${text}]]).double().requires_grad_(); loss = toy_loss(w, ${normalised ? "True" : "False"}); loss.item(), torch.autograd.grad(loss, w)[0].norm().item()`,
  };
}

export async function fillFan() {
  for (const root of document.querySelectorAll(".cx-fan")) {
    const task = await load(root.dataset.task, "The points");
    const grounds = Object.fromEntries(FIELDS[0].choices.map((norm) => [norm, ground(task, norm === WITH)]));
    root.dial = new Dials(root, FIELDS, (state) => show(task, grounds, state));
  }
}
