// Images that .ci/build_site.py stored in base64, and how they are shown.

import { element } from "./charts.js";

export const SIDE = 28;

/** The bytes behind a text. */
export const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** Images (n, SIDE, SIDE) in one array, one by one. */
export const oneByOne = (bytes) => Array.from({ length: bytes.length / SIDE ** 2 }, (_, i) => bytes.subarray(i * SIDE ** 2, (i + 1) * SIDE ** 2));

export async function load(address, what) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${what} could not be loaded (${response.status}): reload the page.`);
  return response.json();
}

/** A canvas for an image. */
export const sheet = (attributes = {}) => element("canvas", { width: SIDE, height: SIDE, class: "cx-sheet", ...attributes });

/** Shows (SIDE, SIDE) bytes as ink on paper; returns the canvas. */
export function paint(canvas, image) {
  const context = canvas.getContext("2d"), pixels = context.createImageData(SIDE, SIDE);
  image.forEach((ink, i) => pixels.data.set([255 - ink, 255 - ink, 255 - ink, 255], 4 * i));
  context.putImageData(pixels, 0, 0);
  return canvas;
}
