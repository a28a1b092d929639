// Two tasks with one weight, and a step of each from a common start: `two_parabolas()` without a kernel.

import { Dials, plot } from "./dials.js";

const STEEPNESS = [1, 4], BEST = [0, 1], LOW = -0.3, HIGH = 1.5, COLOURS = ["#4477AA", "#AA3377"];
export const FIELDS = [
  { name: "start", label: "start w", low: -0.2, high: 1.4, step: 0.01, first: 0.8 },
  { name: "alpha", label: "rate α", low: 0, high: 0.4, step: 0.01, first: 0.2 },
];
const GRID = Array.from({ length: 181 }, (_, i) => LOW + (i * (HIGH - LOW)) / 180);

const loss = (task, w) => 0.5 * STEEPNESS[task] * (w - BEST[task]) ** 2;
const step = (task, w, alpha) => w - alpha * STEEPNESS[task] * (w - BEST[task]);

/** Sum of the two losses at a start, and after a step of each task from there. */
export function sums({ start, alpha }) {
  return { before: loss(0, start) + loss(1, start), after: loss(0, step(0, start, alpha)) + loss(1, step(1, start, alpha)) };
}

function show(state) {
  const { start, alpha } = state, { before, after } = sums(state), none = GRID.map((w) => sums({ start: w, alpha }));
  const tasks = [0, 1].flatMap((task) => {
    const end = step(task, start, alpha);
    return [{ x: GRID, y: GRID.map((w) => loss(task, w)), colour: COLOURS[task] },
      { x: [start, end], y: [loss(task, start), loss(task, end)], colour: "currentColor", points: true }];
  });
  const both = [{ x: GRID, y: none.map((sum) => sum.before), colour: "#7F7F7F", dashed: true },
    { x: GRID, y: none.map((sum) => sum.after), colour: "#0072B2" },
    { x: [start, start], y: [before, after], colour: "currentColor", points: true }];
  const best = GRID[none.map((sum) => sum.after).reduce((low, value, i, all) => (value < all[low] ? i : low), 0)];
  const words = `From w = ${start} the sum of the losses falls from ${before.toFixed(2)} to ${after.toFixed(2)}. `
    + `Without a step it is lowest at 0.80, after one step for each task at ${best.toFixed(2)}.`;
  return {
    words,
    figures: [["the loss of task A (blue) and of task B (purple), with a step of each", plot(tasks, [LOW, HIGH], [0, 2.2], words)],
      ["the sum of both, over the start: without a step (dashed), and after one step each", plot(both, [LOW, HIGH], [0, 2.2], words)]],
    python: `panel = two_parabolas(start=${start}, alpha=${alpha}); panel`,
  };
}

export function fillParabolas() {
  for (const root of document.querySelectorAll(".cx-parabolas")) root.dial = new Dials(root, FIELDS, show);
}
