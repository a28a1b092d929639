// What has been drawn: five characters, up to five drawings of each, and one to be read. Nothing of it is stored or sent
// anywhere by this module.

import { isEmpty, THICKNESS, toImage, toStrokes } from "./strokes.js";

export const WAYS = 5, SHOTS = 5, NAMES = ["A", "B", "C", "D", "E"], QUERY = "query";
const LARGEST = 105; // pixels of an upload's longer side

/** Strokes as a link has them: on the canvas, to a thousandth of it. */
export const onGrid = (strokes) => strokes.map((stroke) => stroke.map((point) => point.map((value) => Math.round(1000 * Math.min(Math.max(value, 0), 1)) / 1000)));

export class Sheet {
  constructor() {
    this.thickness = THICKNESS;
    this.slots = new Map([[QUERY, []]]);
    for (const name of NAMES) for (let shot = 1; shot <= SHOTS; shot++) this.slots.set(`${name}${shot}`, []);
    this.past = [];
  }

  /** Replaces the strokes of a slot; `undo` brings the old ones back. */
  put(slot, strokes) {
    this.past.push([slot, this.slots.get(slot)]);
    this.slots.set(slot, strokes);
  }

  /** Returns the slot that was changed, or undefined if there is nothing to undo. */
  undo() {
    const [slot, strokes] = this.past.pop() ?? [];
    if (slot) this.slots.set(slot, strokes);
    return slot;
  }

  has(slot) {
    return !isEmpty(this.slots.get(slot));
  }

  /** {slot: strokes} of all that has been drawn. */
  drawn() {
    return Object.fromEntries([...this.slots].filter(([slot]) => this.has(slot)));
  }

  image(slot) {
    return toImage(this.slots.get(slot), this.thickness);
  }

  /** {images, labels, names}: the drawn characters in order; a label counts those that have been drawn. */
  support() {
    const drawn = (name) => [...this.slots.keys()].filter((slot) => slot !== QUERY && slot[0] === name && this.has(slot));
    const names = NAMES.filter((name) => drawn(name).length);
    if (!names.length) throw new Error("Nothing has been drawn yet: draw at least two characters, or take the example.");
    if (names.length === 1)
      throw new Error(`Only ${names[0]} has been drawn: draw at least two different characters, so that there is something to tell apart.`);
    const slots = names.flatMap((name) => drawn(name));
    return { images: slots.map((slot) => this.image(slot)), labels: slots.map((slot) => names.indexOf(slot[0])), names };
  }

  query() {
    if (!this.has(QUERY)) throw new Error("The last field is empty: draw the character that is to be read.");
    return this.image(QUERY);
  }
}

/** Strokes of an image file: the middle lines of what is dark on light, or light on dark. */
export async function strokesOf(file) {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Error(`“${file.name}” is no image that this browser can read: choose a PNG, JPEG, GIF or WebP file.`);
  });
  const scale = LARGEST / Math.max(bitmap.width, bitmap.height);
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const grey = Array.from({ length: width * height }, (_, i) => (data[4 * i] + data[4 * i + 1] + data[4 * i + 2]) / 3);
  const [low, high] = grey.reduce(([a, b], g) => [Math.min(a, g), Math.max(b, g)], [255, 0]), middle = (low + high) / 2;
  if (high - low < 40) throw new Error(`“${file.name}” shows no drawing: its pixels are all about equally bright.`);
  const dark = grey.filter((g) => g < middle).length < grey.length / 2;
  return toStrokes(Uint8Array.from(grey, (g) => Number(dark === g < middle)), width, height);
}
