// From strokes to the 28×28 bytes that a network sees, as the images of Omniglot were made: black lines of one thickness
// on 105×105 pixels, inverted, and shrunk as torchvision's antialiased bilinear resize does.
//
// A drawing is a list of strokes, a stroke a list of [x, y]; the unit is the side of the canvas, y runs downwards.

export const SIDE = 28; // pixels of an image
export const FINE = 105; // pixels of a drawing of Omniglot
export const LONGER = 65; // of these, the longer side of a drawing: the mean of Omniglot small's training images
export const THICKNESS = 4.7; // fine pixels: gives as much ink as those images have
const LARGEST = 4; // a dot is not blown up without end

export const isEmpty = (strokes) => !strokes.some((stroke) => stroke.length > 0);

/** Strokes in fine pixels: the longer side is LONGER, the middle of the drawing is the middle of the image. */
export function centred(strokes) {
  const points = strokes.flat(), [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = Math.min(LONGER / Math.max(right - left, bottom - top, 1e-9), LARGEST * FINE);
  const middle = [(left + right) / 2, (top + bottom) / 2];
  return strokes.map((stroke) => stroke.map((point) => point.map((value, i) => (value - middle[i]) * scale + FINE / 2)));
}

/** Square of the distance of a point to a segment. */
function distance([px, py], [ax, ay], [bx, by]) {
  const dx = bx - ax, dy = by - ay, length = dx * dx + dy * dy;
  const t = length ? Math.max(0, Math.min(1, ((px - ax) * dx + (py - ay) * dy) / length)) : 0;
  return (px - ax - t * dx) ** 2 + (py - ay - t * dy) ** 2;
}

/** (FINE, FINE) bytes, 255 where the middle of a pixel lies in a line of this thickness. */
function inked(strokes, thickness) {
  const ink = new Uint8Array(FINE * FINE), radius = thickness / 2;
  const from = (...values) => Math.max(0, Math.floor(Math.min(...values) - radius));
  const to = (...values) => Math.min(FINE - 1, Math.ceil(Math.max(...values) + radius));
  for (const stroke of strokes)
    stroke.forEach((b, i) => {
      const a = stroke[Math.max(0, i - 1)];
      for (let y = from(a[1], b[1]); y <= to(a[1], b[1]); y++)
        for (let x = from(a[0], b[0]); x <= to(a[0], b[0]); x++)
          if (distance([x + 0.5, y + 0.5], a, b) <= radius ** 2) ink[y * FINE + x] = 255;
    });
  return ink;
}

/** For each of SIDE pixels: the fine pixels it is made of, and their weights. */
const TRIANGLES = Array.from({ length: SIDE }, (_, i) => {
  const scale = FINE / SIDE, middle = (i + 0.5) * scale;
  const first = Math.max(0, Math.trunc(middle - scale + 0.5)), last = Math.min(FINE, Math.trunc(middle + scale + 0.5));
  const weights = Array.from({ length: last - first }, (_, j) => Math.max(0, 1 - Math.abs((first + j + 0.5 - middle) / scale)));
  const total = weights.reduce((sum, w) => sum + w);
  return { first, weights: weights.map((w) => w / total) };
});

/** (FINE, FINE) to (SIDE, SIDE) bytes. */
export function shrink(fine) {
  const narrow = new Float64Array(FINE * SIDE), small = new Uint8Array(SIDE * SIDE);
  for (let y = 0; y < FINE; y++)
    TRIANGLES.forEach(({ first, weights }, x) => {
      narrow[y * SIDE + x] = weights.reduce((sum, w, j) => sum + w * fine[y * FINE + first + j], 0);
    });
  TRIANGLES.forEach(({ first, weights }, y) => {
    for (let x = 0; x < SIDE; x++)
      small[y * SIDE + x] = Math.round(weights.reduce((sum, w, j) => sum + w * narrow[(first + j) * SIDE + x], 0));
  });
  return small;
}

/** (SIDE, SIDE) bytes of a drawing, ink 255 on paper 0. */
export const toImage = (strokes, thickness = THICKNESS) => shrink(inked(centred(strokes), thickness));

/** One of the two passes of Zhang and Suen (1984): takes edge pixels off; returns whether there were any. */
function peel(ink, width, height, pass) {
  const gone = [];
  for (let y = 1; y < height - 1; y++)
    for (let x = 1; x < width - 1; x++) {
      const at = y * width + x;
      if (!ink[at]) continue;
      const ring = [-width, 1 - width, 1, width + 1, width, width - 1, -1, -width - 1].map((offset) => ink[at + offset]);
      const [north, , east, , south, , west] = ring, neighbours = ring.reduce((sum, value) => sum + value, 0);
      const turns = ring.filter((value, i) => !value && ring[(i + 1) % 8]).length;
      const edge = pass ? !(north && east && west) && !(north && south && west) : !(north && east && south) && !(east && south && west);
      if (turns === 1 && neighbours >= 2 && neighbours <= 6 && edge) gone.push(at);
    }
  gone.forEach((at) => { ink[at] = 0; });
  return gone.length > 0;
}

/** Which ink pixels touch: at → set of others. Where two touch by a side, no diagonal cuts the corner. */
function linked(thin, width) {
  const links = new Map();
  thin.forEach((value, at) => {
    if (!value) return;
    const sides = [1, -1, width, -width].filter((offset) => thin[at + offset]);
    const corners = [width + 1, width - 1, -width + 1, -width - 1].filter(
      (offset) => thin[at + offset] && !thin[at + Math.sign(offset) * width] && !thin[at + offset - Math.sign(offset) * width]);
    links.set(at, new Set([...sides, ...corners].map((offset) => at + offset)));
  });
  return links;
}

/** Strokes of a scanned or uploaded drawing (height, width), ink 1 and paper 0: the middle lines of its ink. */
export function toStrokes(ink, width, height) {
  const w = width + 2, thin = new Uint8Array(w * (height + 2)), side = Math.max(width, height), strokes = [];
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) thin[(y + 1) * w + x + 1] = ink[y * width + x];
  while ([peel(thin, w, height + 2, 0), peel(thin, w, height + 2, 1)].some(Boolean));
  const links = linked(thin, w), point = (at) => [((at % w) - 0.5) / side, (Math.floor(at / w) - 0.5) / side];
  const walk = (at) => {
    const line = [point(at)];
    for (let next; (next = links.get(at).values().next().value) !== undefined; at = next) {
      links.get(at).delete(next);
      links.get(next).delete(at);
      line.push(point(next));
    }
    return line;
  };
  for (const [at, others] of links) if (others.size === 0) strokes.push([point(at)]);
  const ends = [...links.keys()].filter((at) => links.get(at).size % 2); // a line is longest from one of its ends
  for (const at of [...ends, ...links.keys()]) while (links.get(at).size) strokes.push(walk(at));
  return strokes;
}
