// Two small charts in SVG, in the colours of `plots/style.py`. Each has its sentence for those who do not see it.

export const CLASS_COLOURS = ["#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE"];
export const LAYER_COLOURS = ["#978ACE", "#7561B4", "#53308F", "#2D0057", "#C77F00"];
export const LAYERS = ["block 1", "block 2", "block 3", "block 4", "head"];
const WIDTH = 320, HEIGHT = 150, LEFT = 44, RIGHT = 62, TOP = 14, BOTTOM = 22;

const percent = (value) => `${Math.round(100 * value)} %`;

/** An element with attributes and children; `svg` picks the name space. */
export function element(name, attributes = {}, children = [], svg = false) {
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...[].concat(children));
  return made;
}

const shape = (name, attributes, children) => element(name, attributes, children, true);
const text = (content, x, y, attributes = {}) => shape("text", { x, y, ...attributes }, content);

function frame(label, marks) {
  return shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, class: "cx-chart" }, marks);
}

/** Where step k stands; a bar's middle. */
const across = (k, steps) => LEFT + ((k + 0.5) * (WIDTH - LEFT - RIGHT)) / steps;

/** Axis of inner steps, 0 being "before". */
const stepLabels = (steps, first, zero = "before") => Array.from({ length: steps }, (_, k) =>
  text(k + first ? String(k + first) : zero, across(k, steps), HEIGHT - 6, { "text-anchor": "middle" }));

/** What the network answers before and after every step: (steps, ways) probabilities as stacked bars. */
export function answerBars(probabilities, names, colours) {
  const steps = probabilities.length, height = HEIGHT - TOP - BOTTOM, width = (WIDTH - LEFT - RIGHT) / steps - 4;
  const marks = stepLabels(steps, 0, steps > 1 ? "before" : "answer"), told = []; // one that only compares has no before
  probabilities.forEach((row, k) => {
    const best = row.indexOf(Math.max(...row)), x = across(k, steps);
    let y = TOP;
    row.forEach((p, c) => {
      marks.push(shape("rect", { x: x - width / 2, y, width, height: p * height, fill: colours[c], "data-step": k, "data-class": names[c], "data-p": p }));
      y += p * height;
    });
    marks.push(text(names[best], x, TOP - 3, { "text-anchor": "middle", class: "cx-strong" }));
    told.push(`${k ? `step ${k}` : "before"} ${names[best]} ${percent(row[best])}`);
  });
  names.forEach((name, c) => {
    const y = TOP + 10 + 18 * c;
    marks.push(shape("rect", { x: WIDTH - RIGHT + 10, y: y - 9, width: 10, height: 10, fill: colours[c] }));
    marks.push(text(`${name} ${percent(probabilities[steps - 1][c])}`, WIDTH - RIGHT + 24, y));
  });
  for (const [share, y] of [[1, TOP + 4], [0, TOP + height + 3]]) marks.push(text(percent(share), LEFT - 4, y, { "text-anchor": "end" }));
  return frame(`Answer after each step: ${told.join(", ")}.`, marks);
}

/** One line per layer over inner steps 1, 2, …; `series` has (layers, steps) numbers; the vertical axis is logarithmic. */
export function layerLines(series, what, steps) {
  const values = series.flat().filter((v) => v > 0), logs = values.map(Math.log10), height = HEIGHT - TOP - BOTTOM;
  const low = Math.min(...logs), high = Math.max(...logs, low + 0.1);
  const up = (value) => TOP + height * (1 - (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low));
  const marks = stepLabels(steps, 1), ends = [];
  series.forEach((line, layer) => {
    const points = line.map((value, k) => `${across(k, steps)},${up(value)}`).join(" "), stroke = LAYER_COLOURS[layer];
    marks.push(shape("polyline", { points, stroke, fill: "none", "stroke-width": 2, "data-layer": LAYERS[layer] }));
    line.forEach((value, k) => marks.push(shape("circle", { cx: across(k, steps), cy: up(value), r: 2.5, fill: stroke })));
    if (line.length) ends.push({ layer, y: up(line[line.length - 1]) + 4 });
  });
  // Labels keep a distance: they move up from the lowest one, and down again where that leaves the chart.
  ends.sort((a, b) => b.y - a.y).forEach((end, i) => { if (i) end.y = Math.min(end.y, ends[i - 1].y - 12); });
  ends.reverse().forEach((end, i) => { end.y = Math.max(end.y, i ? ends[i - 1].y + 12 : TOP); });
  ends.forEach((end) => {
    const x = across(series[end.layer].length - 1, steps) + 8;
    marks.push(text(LAYERS[end.layer], x, end.y, { class: "cx-layer", "data-layer": end.layer }));
  });
  for (const power of [low, high])
    marks.push(text((10 ** power).toPrecision(2).replace(/e[+]?(-?)/, " · 10^$1"), LEFT - 4, up(10 ** power) + 4, { "text-anchor": "end" }));
  const told = series.map((line, layer) => `${LAYERS[layer]} ${line[line.length - 1].toPrecision(2)}`).join(", ");
  return frame(`${what} in step ${series[0].length}: ${told}.`, marks);
}

/** A bar per layer, and beside it, in grey, what it is compared with; the vertical axis is logarithmic. */
export function layerBars(values, before, what) {
  const logs = [...values, ...before].map((v) => Math.log10(v)), height = HEIGHT - TOP - BOTTOM;
  const low = Math.floor(Math.min(...logs)), high = Math.ceil(Math.max(...logs, low + 1));
  const up = (value) => TOP + height * (1 - (Math.log10(value) - low) / (high - low));
  const marks = [], bar = (x, value, fill) => shape("rect", { x, y: up(value), width: 16, height: TOP + height - up(value), fill, "data-value": value });
  values.forEach((value, layer) => {
    const x = LEFT + 8 + (layer * (WIDTH - LEFT - 16)) / LAYERS.length;
    marks.push(bar(x, before[layer], "#AAAAAA"), bar(x + 18, value, LAYER_COLOURS[layer]));
    marks.push(text(LAYERS[layer], x + 17, HEIGHT - 6, { "text-anchor": "middle" }));
  });
  for (const power of [low, high]) marks.push(text(String(Number((10 ** power).toPrecision(1))), LEFT - 4, up(10 ** power) + 4, { "text-anchor": "end" }));
  return frame(`${what}: ${values.map((value, layer) => `${LAYERS[layer]} ${value.toPrecision(3)}`).join(", ")}.`, marks);
}
