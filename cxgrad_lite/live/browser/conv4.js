// Conv4, forward and backward, on typed arrays: the same numbers as `core/nets.py` in float64.
//
// Feature maps are stored channel by channel, (channels, n, size + 2, size + 2), with a border of zeros around every
// image: a tap of a 3×3 kernel is then one offset for a whole channel, and the padding costs no test.

const newMaps = (channels, n, size) => {
  const row = size + 2, plane = n * row * row;
  return { channels, n, size, row, plane, data: new Float64Array(channels * plane) };
};

/** Calls `visit` with the position of every pixel inside the borders of one channel, image by image, row by row. */
function forPixels({ n, size, row }, visit) {
  for (let image = 0; image < n; image++)
    for (let y = 1; y <= size; y++)
      for (let x = 1, p = (image * row + y) * row + 1; x <= size; x++, p++) visit(p);
}

/** (n, channels, size, size) images in one array, to feature maps. */
export function toMaps(images, channels, size) {
  const n = images.length / (channels * size * size), maps = newMaps(channels, n, size);
  for (let c = 0; c < channels; c++) {
    let i = 0;
    forPixels(maps, (p) => {
      const image = Math.floor(i / (size * size)), pixel = i++ % (size * size);
      maps.data[c * maps.plane + p] = images[(image * channels + c) * size * size + pixel];
    });
  }
  return maps;
}

/** Convolution 3×3 with zero padding; kernel (width, channels, 3, 3). */
function convolve(x, kernel, width) {
  const y = newMaps(width, x.n, x.size), { row, plane } = x, a = x.data, b = y.data;
  for (let o = 0; o < width; o++)
    for (let c = 0; c < x.channels; c++) {
      const k = (o * x.channels + c) * 9, [k0, k1, k2, k3, k4, k5, k6, k7, k8] = kernel.subarray(k, k + 9);
      const last = plane - row - 1, from = c * plane, to = o * plane;
      for (let p = row + 1; p < last; p++) {
        const q = from + p, above = q - row, below = q + row;
        b[to + p] += k0 * a[above - 1] + k1 * a[above] + k2 * a[above + 1]
          + k3 * a[q - 1] + k4 * a[q] + k5 * a[q + 1]
          + k6 * a[below - 1] + k7 * a[below] + k8 * a[below + 1];
      }
    }
  clearBorders(y);
  return y;
}

function clearBorders(maps) {
  const kept = new Uint8Array(maps.plane);
  forPixels(maps, (p) => { kept[p] = 1; });
  for (let i = 0; i < maps.data.length; i++) if (!kept[i % maps.plane]) maps.data[i] = 0;
}

/** Gradient of the loss with respect to the kernel, from that with respect to the convolution's output. */
function kernelGradient(x, dy) {
  const { row, plane } = x, a = x.data, b = dy.data, grad = new Float64Array(dy.channels * x.channels * 9);
  for (let o = 0; o < dy.channels; o++)
    for (let c = 0; c < x.channels; c++) {
      let g0 = 0, g1 = 0, g2 = 0, g3 = 0, g4 = 0, g5 = 0, g6 = 0, g7 = 0, g8 = 0;
      for (let p = row + 1; p < plane - row - 1; p++) {
        const g = b[o * plane + p], q = c * plane + p, above = q - row, below = q + row;
        g0 += g * a[above - 1]; g1 += g * a[above]; g2 += g * a[above + 1];
        g3 += g * a[q - 1]; g4 += g * a[q]; g5 += g * a[q + 1];
        g6 += g * a[below - 1]; g7 += g * a[below]; g8 += g * a[below + 1];
      }
      grad.set([g0, g1, g2, g3, g4, g5, g6, g7, g8], (o * x.channels + c) * 9);
    }
  return grad;
}

/** The kernel that carries gradients back through a convolution: turned by 180°, input and output exchanged. */
function transposed(kernel, width, channels) {
  const turned = new Float64Array(kernel.length);
  for (let o = 0; o < width; o++)
    for (let c = 0; c < channels; c++)
      for (let k = 0; k < 9; k++) turned[(c * width + o) * 9 + 8 - k] = kernel[(o * channels + c) * 9 + k];
  return turned;
}

/** Batch norm with the statistics of the batch at hand, without gain and bias, in place; returns 1/√(variance + ε). */
function normalise(maps, eps) {
  const { channels, plane, data } = maps, count = maps.n * maps.size ** 2, inverse = new Float64Array(channels);
  for (let c = 0; c < channels; c++) {
    let sum = 0, squares = 0;
    forPixels(maps, (p) => { sum += data[c * plane + p]; });
    const mean = sum / count;
    forPixels(maps, (p) => { squares += (data[c * plane + p] -= mean) ** 2; });
    inverse[c] = 1 / Math.sqrt(squares / count + eps);
    forPixels(maps, (p) => { data[c * plane + p] *= inverse[c]; });
  }
  return inverse;
}

/** Where the largest of 2×2 pixels (with `pool`), or each pixel, stands in one channel; the first wins a tie. */
function winner(z, at, row, pool) {
  if (!pool) return at;
  let best = at;
  for (const p of [at + 1, at + row, at + row + 1]) if (z[p] > z[best]) best = p;
  return best;
}

/** One block: convolution, batch norm, 2×2 max-pooling, leaky ReLU. Returns its output and what `backBlock` needs. */
function block(x, kernel, gain, bias, { pool, eps, slope }) {
  const width = gain.length, normed = convolve(x, kernel, width), inverse = normalise(normed, eps);
  const out = newMaps(width, x.n, pool ? x.size >> 1 : x.size);
  const sources = new Int32Array(out.data.length), { row, plane } = normed, z = new Float64Array(plane);
  for (let c = 0; c < width; c++) {
    for (let p = 0; p < plane; p++) z[p] = gain[c] * normed.data[c * plane + p] + bias[c];
    forPixels(out, (p) => {
      const image = Math.floor(p / out.row ** 2), inside = p % out.row ** 2, step = pool ? 2 : 1;
      const top = (Math.floor(inside / out.row) - 1) * step + 1, left = ((inside % out.row) - 1) * step + 1;
      const source = winner(z, (image * row + top) * row + left, row, pool);
      sources[c * out.plane + p] = source;
      out.data[c * out.plane + p] = z[source] > 0 ? z[source] : slope * z[source];
    });
  }
  return { x, kernel, gain, normed, inverse, sources, out, slope };
}

/** Gradients of kernel, gain and bias, and of the block's input (unless it is the image). */
function backBlock({ x, kernel, gain, normed, inverse, sources, out, slope }, dout, first) {
  const { channels: width, n, size, plane, data } = normed, count = n * size ** 2, dy = newMaps(width, n, size);
  const dgain = new Float64Array(width), dbias = new Float64Array(width);
  for (let c = 0; c < width; c++) {
    forPixels(out, (p) => {
      const at = c * out.plane + p;
      dy.data[c * plane + sources[at]] = out.data[at] > 0 ? dout.data[at] : slope * dout.data[at];
    });
    forPixels(normed, (p) => {
      dbias[c] += dy.data[c * plane + p];
      dgain[c] += dy.data[c * plane + p] * data[c * plane + p];
    });
    forPixels(normed, (p) => {
      const at = c * plane + p, centred = dy.data[at] - dbias[c] / count - data[at] * dgain[c] / count;
      dy.data[at] = gain[c] * inverse[c] * centred;
    });
  }
  const dx = first ? null : convolve(dy, transposed(kernel, width, x.channels), x.channels);
  return { dkernel: kernelGradient(x, dy), dgain, dbias, dx };
}

export class Conv4 {
  /** `options`: those of `core/nets.py`, as a checkpoint has them. */
  constructor(options) {
    if (options.norm !== "batch" || options.conv_bias)
      throw new Error(`a network with norm "${options.norm}"${options.conv_bias ? " and biases of convolutions" : ""} `
        + "does not run in the browser; export one with norm \"batch\" and without them");
    Object.assign(this, options);
    this.slope = options.activation === "relu" ? 0 : 0.01;
  }

  /** (n, C, H, W) images to features (n, d), and the tape of the blocks. */
  features(theta, images) {
    let x = toMaps(images, this.in_channels, this.image_size);
    const tape = [0, 1, 2, 3].map((i) => {
      const part = `net.blocks.${i}`, options = { pool: i < this.poolings, eps: this.eps, slope: this.slope };
      const made = block(x, theta[`${part}.conv.weight`], theta[`${part}.norm.weight`], theta[`${part}.norm.bias`], options);
      x = made.out;
      return made;
    });
    return { features: flatten(x), n: x.n, tape };
  }

  /** (n, ways) logits, and what `backward` needs. */
  forward(theta, images) {
    const seen = this.features(theta, images), weight = theta["net.head.weight"], bias = theta["net.head.bias"];
    const ways = bias.length, d = weight.length / ways, logits = new Float64Array(seen.n * ways);
    for (let i = 0; i < seen.n; i++)
      for (let w = 0; w < ways; w++) {
        let sum = bias[w];
        for (let j = 0; j < d; j++) sum += weight[w * d + j] * seen.features[i * d + j];
        logits[i * ways + w] = sum;
      }
    return { ...seen, logits };
  }

  /** Gradient of the loss with respect to every parameter, from that with respect to the logits (n, ways). */
  backward(theta, { features, n, tape }, dlogits) {
    const weight = theta["net.head.weight"], ways = dlogits.length / n, d = weight.length / ways;
    const grads = { "net.head.weight": new Float64Array(ways * d), "net.head.bias": new Float64Array(ways) };
    const dfeatures = new Float64Array(n * d);
    for (let i = 0; i < n; i++)
      for (let w = 0; w < ways; w++) {
        const g = dlogits[i * ways + w];
        grads["net.head.bias"][w] += g;
        for (let j = 0; j < d; j++) {
          grads["net.head.weight"][w * d + j] += g * features[i * d + j];
          dfeatures[i * d + j] += g * weight[w * d + j];
        }
      }
    let dout = toMaps(dfeatures, this.width, tape[3].out.size);
    for (let i = 3; i >= 0; i--) {
      const { dkernel, dgain, dbias, dx } = backBlock(tape[i], dout, i === 0);
      grads[`net.blocks.${i}.conv.weight`] = dkernel;
      grads[`net.blocks.${i}.norm.weight`] = dgain;
      grads[`net.blocks.${i}.norm.bias`] = dbias;
      dout = dx;
    }
    return grads;
  }
}

/** Feature maps to (n, channels · size²), as PyTorch flattens them. */
function flatten(maps) {
  const { channels, size, plane, n } = maps, d = channels * size * size, flat = new Float64Array(n * d);
  for (let c = 0; c < channels; c++) {
    let i = 0;
    forPixels(maps, (p) => {
      const image = Math.floor(i / (size * size)), pixel = i++ % (size * size);
      flat[image * d + c * size * size + pixel] = maps.data[c * plane + p];
    });
  }
  return flat;
}
