// The drawing panel on a page without a kernel: the worker adapts, and no stroke leaves the browser.

import { DrawingPanel } from "./drawing.js";
import { softmax } from "./methods.js";
import { onGrid, Sheet } from "./sheet.js";

const WAYS = 5;
const bytes = (images) => Float64Array.from(images.flatMap((image) => Array.from(image, (ink) => ink / 255)));

/** A backend for `DrawingPanel`; `weights` maps a method's name to the address of its file. */
export const inWorker = (weights) => ({ step, answer, fail }) => {
  if (!globalThis.Worker) {
    const silent = () => fail("This browser has no web workers, in which the networks adapt: open the page in a current Firefox, Chrome, Edge or Safari.");
    return { adapt: silent, answer: () => {} };
  }
  const names = new Map(Object.entries(weights).map(([name, address]) => [new URL(address, location.href).href, name]));
  let worker = null, drawn = null;
  const hear = ({ data: { address, k, trace, logits, error } }) => {
    if (error) fail(error);
    else if (logits) answer(names.get(address), logits.map((rows) => probabilities(rows.slice(-WAYS), drawn.names.length)));
    else step(names.get(address), k, trace);
  };
  const each = (message) => [...names.keys()].forEach((address) => worker.postMessage({ address, ...message }));
  return {
    adapt(support) {
      worker?.terminate(); // what it was still doing is for older drawings
      worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
      worker.onerror = () => fail("The part of this page that adapts could not be loaded: reload the page.");
      worker.onmessage = hear;
      drawn = support;
      each({ ask: "adapt", support: { images: bytes(support.images), labels: support.labels } });
    },
    // In one batch with the support drawings, because batch norm needs company.
    answer: (image) => each({ ask: "answer", images: bytes([...drawn.images, image]) }),
  };
};

/** Probabilities of the characters that have been drawn. */
const probabilities = (logits, ways) => Array.from(softmax(logits.slice(0, ways), ways));

const piped = async (bytes, through) => new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(through)).arrayBuffer());

/** {slot: strokes} as a text for an address: JSON, zlib, base64, as `packed` in `live/drawing.py` writes it. */
export async function packed(drawings) {
  const bytes = await piped(JSON.stringify(drawings), new CompressionStream("deflate"));
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replaceAll("+", "-").replaceAll("/", "_");
}

/** The drawings in such a text; null if it is none. */
export async function unpacked(text) {
  try {
    const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
    const given = JSON.parse(new TextDecoder().decode(await piped(bytes, new DecompressionStream("deflate"))));
    const known = Object.entries(given).filter(([slot]) => new Sheet().slots.has(slot));
    return known.length ? Object.fromEntries(known.map(([slot, strokes]) => [slot, onGrid(strokes)])) : null;
  } catch {
    return null;
  }
}

/** Puts what has been drawn into the address of the page; the sentence that says so, with the line of Python. */
async function share(sheet) {
  const text = await packed(sheet.drawn());
  history.replaceState(null, "", `#pen=${sheet.thickness}&drawings=${text}`);
  return `The address of this page now holds your drawings. They leave this browser only if you send it to somebody. In Python: draw_and_adapt(methods, drawings="${text}")`;
}

/** Drawings and pen in the address of the page; nothing if there are none. */
async function linked() {
  const given = new URLSearchParams(location.hash.slice(1)), drawings = await unpacked(given.get("drawings") ?? ""), pen = Number(given.get("pen"));
  return drawings ? { drawings, ...(pen >= 2 && pen <= 9 ? { pen } : {}) } : {};
}

/** Fills every `<div class="cx-panel" data-methods='{"MAML": address, …}' data-example="address" data-note="…">`. */
export async function fillPage() {
  for (const root of document.querySelectorAll(".cx-panel[data-methods]")) {
    const methods = JSON.parse(root.dataset.methods);
    const example = root.dataset.example ? await (await fetch(root.dataset.example)).json() : null;
    const options = { methods: Object.keys(methods), example, note: root.dataset.note, share, start: await linked() };
    const panel = root.panel = new DrawingPanel(root, inWorker(methods), options);
    addEventListener("hashchange", async () => { const state = await linked(); if (state.drawings) panel.take(state); });
  }
}
