// What the panels of the pages share: dials whose state is part of the page's address, so that it can be sent to
// somebody; a sentence; figures; and the line of Python that brings the panel of the notebook to the same state.
//
// A field is {name, label, first} with {low, high, step} for a slider, of the logarithm if `log`, or with {choices}.

import { element } from "./charts.js";

const inRange = ({ low, high, step }, value) => value >= low && value <= high && (step !== 1 || Number.isInteger(value));
const fits = (field, value) => (field.choices ? field.choices.includes(value) : inRange(field, value));

/** `#layer=block-2&a=3.5` to a state; what is missing or makes no sense is as at first. */
export function readState(fields, hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  return Object.fromEntries(fields.map((field) => {
    const text = given.get(field.name), value = field.choices ? text?.replaceAll("-", " ") : Number(text ?? NaN);
    return [field.name, fits(field, value) ? value : field.first];
  }));
}

export const writeState = (fields, state) => "#" + fields.map(({ name }) => `${name}=${String(state[name]).replaceAll(" ", "-")}`).join("&");

const toDial = ({ log }, value) => (log ? Math.log10(value) : value);
export const fromDial = ({ log }, position) => Number((log ? 10 ** position : position).toPrecision(3));

export class Dials {
  /** `look(state)` returns {words, figures: [[caption, chart], …], python}; with `slow` it waits for the mouse. */
  constructor(root, fields, look, slow = false) {
    Object.assign(this, { fields, look, state: readState(fields, location.hash) });
    this.controls = fields.map((field) => this.control(field, slow));
    this.words = element("p", { role: "status" });
    this.figures = element("div", { class: "cx-figures" });
    this.code = element("code");
    addEventListener("hashchange", () => { this.state = readState(fields, location.hash); this.show(); });
    const row = element("div", { class: "cx-row" }, fields.map((field, i) => element("label", {}, [`${field.before ?? field.label} `, this.controls[i]])));
    root.replaceChildren(element("div", { class: "cx-draw" }, [row, this.words, this.figures, element("p", {}, ["In Python: ", this.code])]));
    this.show();
  }

  control(field, slow) {
    const turn = (value) => {
      this.state = { ...this.state, [field.name]: value };
      history.replaceState(null, "", writeState(this.fields, this.state) + this.others());
      this.show();
    };
    if (field.choices) {
      const options = field.choices.map((choice) => element("option", { value: choice }, choice));
      const select = element("select", { "aria-label": field.label }, options);
      select.addEventListener("change", () => turn(select.value));
      return select;
    }
    const [min, max] = [field.low, field.high].map((value) => toDial(field, value));
    const slider = element("input", { type: "range", min, max, step: field.step, "aria-label": field.label });
    slider.addEventListener(slow ? "change" : "input", () => turn(fromDial(field, Number(slider.value))));
    return slider;
  }

  /** What the address says of other panels of the page. */
  others() {
    const own = this.fields.map(({ name }) => name), said = location.hash.replace(/^#/, "").split("&");
    return said.filter((part) => part.includes("=") && !own.includes(part.split("=")[0])).map((part) => `&${part}`).join("");
  }

  show() {
    this.fields.forEach((field, i) => { this.controls[i].value = field.choices ? this.state[field.name] : toDial(field, this.state[field.name]); });
    const { words, figures, python } = this.look(this.state);
    this.words.textContent = words;
    this.figures.replaceChildren(...figures.map(([caption, chart]) => element("figure", {}, [element("figcaption", {}, caption), chart])));
    this.code.textContent = python;
  }
}

const WIDTH = 320, HEIGHT = 170, LEFT = 40, RIGHT = 10, TOP = 10, BOTTOM = 24;
const shape = (name, attributes, children = []) => element(name, attributes, children, true);

/** Curves and points in one frame: marks are {x, y, colour, dashed, points}; ranges are [low, high]. */
export function plot(marks, xs, ys, label) {
  const across = (x) => LEFT + ((x - xs[0]) / (xs[1] - xs[0])) * (WIDTH - LEFT - RIGHT);
  const up = (y) => HEIGHT - BOTTOM - ((Math.min(Math.max(y, ys[0]), ys[1]) - ys[0]) / (ys[1] - ys[0])) * (HEIGHT - TOP - BOTTOM);
  const made = marks.flatMap(({ x, y, colour, dashed, points }) => {
    const places = x.map((value, i) => [across(value), up(y[i])]);
    const line = shape("polyline", { points: places.map((place) => place.join()).join(" "), fill: "none", stroke: colour, "stroke-width": 2, "stroke-dasharray": dashed ? "5 4" : false });
    return [line, ...(points ? places.map(([cx, cy], i) => shape("circle", { cx, cy, r: 4, fill: colour, "data-x": x[i], "data-y": y[i] })) : [])];
  });
  for (const value of xs) made.push(shape("text", { x: across(value), y: HEIGHT - 6, "text-anchor": value === xs[0] ? "start" : "end" }, String(value)));
  for (const value of ys) made.push(shape("text", { x: LEFT - 4, y: up(value) + 4, "text-anchor": "end" }, String(value)));
  return shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, class: "cx-chart" }, made);
}
