// The panel: a canvas, the fields for the drawings, and what each method makes of them. Who adapts is not its business:
// `connect` gives a backend {adapt(support, drawn), answer(image, drawn)} that calls back `step`, `answer` and `fail`.

import { CLASS_COLOURS, element } from "./charts.js";
import { Results } from "./results.js";
import { NAMES, onGrid, QUERY, Sheet, SHOTS, strokesOf } from "./sheet.js";
import { FINE, SIDE } from "./strokes.js";

const PAPER = 280; // pixels of the canvas

const title = (slot) => (slot === QUERY ? "the character to be read" : `drawing ${slot[1]} of character ${slot[0]}`);

/** Shows (SIDE, SIDE) bytes as ink on paper. */
function paint(canvas, image) {
  const context = canvas.getContext("2d"), pixels = context.createImageData(SIDE, SIDE);
  image.forEach((ink, i) => pixels.data.set([255 - ink, 255 - ink, 255 - ink, 255], 4 * i));
  context.putImageData(pixels, 0, 0);
}

export class DrawingPanel {
  /** `share(sheet)`, on a page, makes a link to what has been drawn, and resolves to the sentence that says so. */
  constructor(root, connect, { methods, example, note = "", share = null, start = {} }) {
    this.sheet = new Sheet();
    this.slot = "A1";
    Object.assign(this, { example, share });
    this.views = new Map(methods.map((method) => [method, new Results(method)]));
    root.replaceChildren(this.build(note));
    this.backend = connect({
      step: (method, k, trace) => this.step(method, k, trace),
      answer: (method, probabilities) => this.answer(method, probabilities),
      fail: (message) => this.say(message, true),
    });
    this.drawAll();
    this.choose("A1");
    if (start.drawings ?? example) this.take(start);
  }

  build(note) {
    const button = (label, onclick, attributes = {}) => element("button", { type: "button", onclick, ...attributes }, label);
    this.paper = element("canvas", { width: PAPER, height: PAPER, class: "cx-paper", role: "img" });
    this.connectPointer();
    this.message = element("p", { class: "cx-message", role: "status" });
    const file = element("input", { type: "file", accept: "image/*", class: "cx-file", "aria-label": "upload an image" });
    file.addEventListener("change", () => file.files[0] && this.upload(file.files[0]).finally(() => { file.value = ""; }));
    const pen = this.pen = element("input", { type: "range", min: 2, max: 9, step: 0.1, value: this.sheet.thickness });
    pen.addEventListener("input", () => { this.sheet.thickness = Number(pen.value); this.drawAll(); });
    const tools = element("div", { class: "cx-row" }, [
      button("undo", () => this.undo()), button("clear", () => this.put([])), button("next field", () => this.next()),
    ]);
    const options = element("div", { class: "cx-row" }, [
      element("label", {}, ["pen ", pen]), element("label", { class: "cx-upload" }, ["or upload an image ", file]),
    ]);
    this.heading = element("p", { class: "cx-heading" });
    const left = element("div", { class: "cx-left" }, [this.heading, this.paper, tools, options]);
    const go = element("div", { class: "cx-row" }, [
      button("adapt", () => this.adapt(), { class: "cx-go" }),
      this.example ? button("example", () => this.take({})) : "", button("clear all", () => this.clearAll()),
      this.share ? button("link", async () => this.say(await this.share(this.sheet))) : "",
    ]);
    const right = element("div", { class: "cx-right" }, [this.buildFields(), go, this.message]);
    const results = element("div", { class: "cx-results" }, [...this.views.values()].map((view) => view.root));
    const parts = [element("div", { class: "cx-top" }, [left, right]), results];
    return element("div", { class: "cx-draw" }, note ? [...parts, element("p", { class: "cx-note" }, note)] : parts);
  }

  buildFields() {
    this.fields = new Map();
    const field = (slot) => {
      const canvas = element("canvas", { width: SIDE, height: SIDE });
      const button = element("button", { type: "button", class: "cx-field", onclick: () => this.choose(slot) }, canvas);
      this.fields.set(slot, { button, canvas });
      return button;
    };
    const row = (label, colour, slots) => element("div", { class: "cx-fields" }, [
      element("span", { class: "cx-name", style: `border-color: ${colour}` }, label), ...slots.map(field)]);
    const rows = NAMES.map((name, c) =>
      row(name, CLASS_COLOURS[c], Array.from({ length: SHOTS }, (_, shot) => `${name}${shot + 1}`)));
    return element("div", {}, [...rows, row("read this:", "transparent", [QUERY])]);
  }

  connectPointer() {
    const { paper } = this;
    let stroke = null;
    const add = (event) => {
      const box = paper.getBoundingClientRect();
      stroke.push([(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]);
    };
    paper.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      event.preventDefault();
      paper.setPointerCapture(event.pointerId);
      stroke = [];
      this.put([...this.sheet.slots.get(this.slot), stroke], false);
      add(event);
      this.drawPaper();
    });
    paper.addEventListener("pointermove", (event) => {
      if (!stroke) return;
      (event.getCoalescedEvents?.() ?? []).concat(event).forEach(add);
      this.drawPaper();
    });
    for (const end of ["pointerup", "pointercancel"])
      paper.addEventListener(end, () => { if (stroke) {
        stroke.splice(0, stroke.length, ...onGrid([stroke])[0]);
        stroke = null;
        this.changed(this.slot);
      } });
  }

  put(strokes, finished = true) {
    this.sheet.put(this.slot, strokes);
    if (finished) this.changed(this.slot);
  }

  undo() {
    const slot = this.sheet.undo();
    if (!slot) return;
    this.choose(slot);
    this.changed(slot);
  }

  clearAll() {
    for (const slot of this.sheet.slots.keys()) if (this.sheet.has(slot)) this.sheet.put(slot, []);
    this.forget();
    this.drawAll();
    this.choose("A1");
    this.say("Draw five characters of your own invention, each once or more, then one of them again in the last field.");
  }

  async upload(file) {
    try {
      this.put(onGrid(await strokesOf(file)));
    } catch (error) {
      this.say(error.message, true);
    }
  }

  /** Drawings by slot in place of those that are there, and the pen that they were drawn with. */
  take({ drawings = this.example, pen = this.sheet.thickness }) {
    for (const slot of this.sheet.slots.keys()) this.sheet.put(slot, drawings[slot] ?? []);
    this.pen.value = this.sheet.thickness = pen;
    this.drawAll();
    this.choose(QUERY);
    this.adapt();
  }

  next() {
    const slots = [...this.fields.keys()];
    this.choose(slots[(slots.indexOf(this.slot) + 1) % slots.length]);
  }

  choose(slot) {
    this.slot = slot;
    this.heading.textContent = `Draw ${title(slot)}`;
    this.paper.setAttribute("aria-label", `canvas for ${title(slot)}; an image can be uploaded instead`);
    for (const [name, { button }] of this.fields) button.setAttribute("aria-pressed", String(name === slot));
    this.drawPaper();
  }

  drawPaper() {
    const context = this.paper.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, PAPER, PAPER);
    Object.assign(context, { lineWidth: (this.sheet.thickness / FINE) * PAPER, lineCap: "round", lineJoin: "round" });
    for (const stroke of this.sheet.slots.get(this.slot)) {
      context.beginPath();
      stroke.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](x * PAPER, y * PAPER));
      if (stroke.length === 1) context.lineTo(stroke[0][0] * PAPER, stroke[0][1] * PAPER);
      context.stroke();
    }
  }

  drawField(slot) {
    const { button, canvas } = this.fields.get(slot), full = this.sheet.has(slot);
    paint(canvas, full ? this.sheet.image(slot) : new Uint8Array(SIDE * SIDE));
    button.setAttribute("aria-label", `${title(slot)}, ${full ? "drawn" : "empty"}`);
    button.classList.toggle("cx-full", full);
  }

  drawAll() {
    for (const slot of this.fields.keys()) this.drawField(slot);
    this.drawPaper();
  }

  /** A drawing is different: what was adapted to the old ones no longer counts; a new query is read at once. */
  changed(slot) {
    this.drawField(slot);
    this.drawPaper();
    if (slot !== QUERY) return this.forget();
    if (this.names && this.sheet.has(QUERY)) this.ask();
    return undefined;
  }

  forget() {
    this.names = null;
    for (const view of this.views.values()) view.forget();
    this.say("Press “adapt” when the characters are drawn.");
  }

  adapt() {
    try {
      const support = this.sheet.support();
      this.forget();
      this.names = support.names;
      this.say(`Adapting to ${support.labels.length} drawings of ${support.names.length} characters …`);
      this.backend.adapt(support, this.sheet.drawn());
      if (this.sheet.has(QUERY)) this.ask();
    } catch (error) {
      this.say(error.message, true);
    }
  }

  ask() {
    this.backend.answer(this.sheet.query(), this.sheet.drawn());
  }

  step(method, k, trace) {
    if (!this.names) return;
    this.views.get(method).addStep(k, trace);
    if (!this.sheet.has(QUERY)) this.say("Adapted. Now draw one of the characters again, in the last field.");
  }

  answer(method, probabilities) {
    if (!this.names) return;
    this.views.get(method).setAnswers(probabilities, this.names);
    const read = [...this.views.values()].map((view) => view.sentence).filter(Boolean);
    this.say(`${read.join("; ")}.`);
  }

  say(message, isError = false) {
    this.message.textContent = message;
    this.message.setAttribute("role", isError ? "alert" : "status");
  }
}
