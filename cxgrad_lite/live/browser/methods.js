// MAML, CxGrad and ProtoNet at test time, as in `core/maml.py`, `core/cxgrad.py` and `zoo/metric.py`: theta goes in,
// theta comes out. A theta maps names to Float64Arrays; a batch is {images, labels}.

import { Conv4 } from "./conv4.js";

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const norm = (a) => Math.sqrt(dot(a, a));
const map = (theta, change) => Object.fromEntries(Object.entries(theta).map(([name, t]) => [name, change(t, name)]));
const descend = (t, grad, rate) => t.map((value, i) => value - rate * grad[i]);

/** Logits (n, ways) to probabilities. */
export function softmax(logits, ways) {
  const p = new Float64Array(logits.length);
  for (let i = 0; i < logits.length; i += ways) {
    const row = logits.subarray(i, i + ways), top = Math.max(...row);
    const total = row.reduce((sum, value) => sum + Math.exp(value - top), 0);
    row.forEach((value, w) => { p[i + w] = Math.exp(value - top) / total; });
  }
  return p;
}

/** Mean cross-entropy of logits (n, ways), and its gradient. */
function crossEntropy(logits, labels) {
  const n = labels.length, ways = logits.length / n, dlogits = softmax(logits, ways);
  let loss = 0;
  labels.forEach((label, i) => {
    loss -= Math.log(dlogits[i * ways + label]) / n;
    dlogits[i * ways + label] -= 1;
  });
  return { loss, dlogits: dlogits.map((g) => g / n) };
}

/** Model-agnostic meta-learning: θ ← θ − α ∇L(θ; support), a few times. */
export class MAML {
  constructor(net, options, tensors) {
    Object.assign(this, options);
    this.net = new Conv4(net);
    this.tensors = tensors;
  }

  isFast(name) {
    return name.startsWith("net.") && (this.adapt_norm || !name.includes(".norm."));
  }

  begin(support) {
    return map(this.tensors, (t) => t);
  }

  logits(theta, images) {
    return this.net.forward(theta, images).logits;
  }

  /** Loss of a batch, and its gradient with respect to every fast tensor. */
  gradients(theta, { images, labels }) {
    const seen = this.net.forward(theta, images), { loss, dlogits } = crossEntropy(seen.logits, labels);
    const grads = this.net.backward(theta, seen, dlogits);
    return { loss, grads: Object.fromEntries(Object.entries(grads).filter(([name]) => this.isFast(name))) };
  }

  /** Inner step `k`: new fast tensors, and what was seen on the way. */
  step(theta, support, k) {
    const { loss, grads } = this.gradients(theta, support);
    const after = { ...theta, ...map(grads, (grad, name) => descend(theta[name], grad, this.inner_lr)) };
    return { theta: after, trace: { loss, gradNorms: map(grads, norm) }, grads };
  }

  /** Yields {theta} before the first inner step, and {theta, trace} after each one. */
  *states(support) {
    let theta = this.begin(support);
    yield { theta };
    for (let k = 0; k < this.inner_steps; k++) {
      const { theta: after, trace } = this.step(theta, support, k);
      theta = after;
      yield { theta, trace };
    }
  }
}

const softplus = (x) => (x > 20 ? x : Math.log1p(Math.exp(x))); // PyTorch's threshold
const linear = (weight, bias, x) => bias.map((b, i) => b + dot(weight.subarray(i * x.length, (i + 1) * x.length), x));

/** Kernels with the norms γ, everything else as it is (eq. 6). */
export function setNorms(theta, gamma) {
  const scaled = { ...theta };
  gamma.forEach((value, i) => {
    const name = `net.blocks.${i}.conv.weight`, length = norm(theta[name]);
    scaled[name] = theta[name].map((weight) => (value * weight) / length);
  });
  return scaled;
}

/** Contextual gradient scaling: kernels set to norm γ before every inner step; γ = g(context). */
export class CxGrad extends MAML {
  get contextMoves() {
    return !(this.frozen_context || this.constant_gamma);
  }

  /** γ (blocks,), and a function that carries a gradient of γ back to the context. */
  generator(context) {
    const [w0, b0, w2, b2] = ["0.weight", "0.bias", "2.weight", "2.bias"].map((n) => this.tensors[`generator.${n}`]);
    const hidden = linear(w0, b0, context), active = hidden.map((h) => Math.max(h, 0)), out = linear(w2, b2, active);
    const back = (dgamma) => {
      const dout = out.map((x, i) => dgamma[i] / (1 + Math.exp(-x)));
      const dhidden = hidden.map((h, j) => (h > 0 ? dout.reduce((sum, g, i) => sum + g * w2[i * hidden.length + j], 0) : 0));
      return context.map((_, i) => dhidden.reduce((sum, g, j) => sum + g * w0[j * context.length + i], 0));
    };
    return { gamma: out.map(softplus), back };
  }

  /** Algorithm 2: kernels set to norm γ; `back` takes gradients of the scaled kernels to the context. */
  scale(theta) {
    const { gamma, back } = this.generator(theta.context);
    const names = Array.from(gamma, (_, i) => `net.blocks.${i}.conv.weight`);
    const slopes = (grads) => names.map((name) => dot(grads[name], theta[name]) / norm(theta[name]));
    return { scaled: setNorms(theta, gamma), gamma, back: (grads) => back(slopes(grads)) };
  }

  /** theta with the context that one gradient step from zero gives (eq. 7). */
  withFreshContext(theta, support) {
    const zero = new Float64Array(this.context_dim), { scaled, back } = this.scale({ ...theta, context: zero });
    return { ...theta, context: descend(zero, back(this.gradients(scaled, support).grads), this.context_lr) };
  }

  begin(support) {
    const theta = { ...super.begin(support), context: new Float64Array(this.context_dim) };
    return this.contextMoves ? this.withFreshContext(theta, support) : theta;
  }

  step(theta, support, k) {
    const everyStep = this.context_update === "step";
    if (everyStep && this.contextMoves && k > 0) theta = this.withFreshContext(theta, support);
    const { scaled, gamma, back } = this.scale(theta), { theta: after, trace, grads } = super.step(scaled, support, k);
    if (this.contextMoves) {
      const dcontext = back(grads);
      after.context = descend(theta.context, dcontext, everyStep ? 0 : this.context_lr);
      trace.gradNorms.context = norm(dcontext);
    }
    return { theta: after, trace: { ...trace, scaling: gamma, context: after.context }, grads };
  }
}

/** Prototypical networks: a class is the mean of its support features; logits are −‖f(x) − prototype‖². */
export class ProtoNet extends MAML {
  *states({ images, labels }) {
    const { features, n } = this.net.features(this.tensors, images), d = features.length / n;
    const counts = new Float64Array(Math.max(...labels) + 1), prototypes = new Float64Array(counts.length * d);
    labels.forEach((label) => { counts[label] += 1; });
    for (let i = 0; i < n; i++)
      for (let j = 0; j < d; j++) prototypes[labels[i] * d + j] += features[i * d + j] / counts[labels[i]];
    yield { theta: { prototypes, d } };
  }

  logits({ prototypes, d }, images) {
    const { features, n } = this.net.features(this.tensors, images), ways = prototypes.length / d;
    const distance = (i, w) => {
      let sum = 0;
      for (let j = 0; j < d; j++) sum += (features[i * d + j] - prototypes[w * d + j]) ** 2;
      return sum;
    };
    return Float64Array.from({ length: n * ways }, (_, at) => -distance(Math.floor(at / ways), at % ways));
  }
}

const METHODS = { MAML, CxGrad, ProtoNet };

/** The method of a file that `python -m cxgrad_lite export` wrote, or of a checkpoint: both are in safetensors. */
export function readMethod(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true)), start = 8 + length;
  const { __metadata__, ...places } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const { recipe } = JSON.parse(__metadata__.cxgrad_lite);
  if (!(recipe.method in METHODS))
    throw new Error(`${recipe.method} does not run in the browser; there are ${Object.keys(METHODS).join(", ")}`);
  const tensors = map(places, ({ data_offsets: [from, to] }) =>
    Float64Array.from(new Float32Array(buffer.slice(start + from, start + to))));
  return new METHODS[recipe.method](recipe.net, recipe.options, tensors);
}
