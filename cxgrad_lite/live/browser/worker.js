// Adapts and answers in a thread of its own, so that the page stays alive. Every message names the address of a weights
// file; the states of the last adaptation are kept for each. Answers come in the order of the questions.
//
//   {ask: "adapt", address, support: {images, labels}}  →  {address, k, trace} for k = 0 … steps
//   {ask: "answer", address, images}                    →  {address, logits: one (n, ways) for each k}
//   {ask: "answer", address, images, last: true}        →  {address, logits: one (n, ways), after the last step}

import { readMethod } from "./methods.js";

const methods = new Map(), states = new Map();

async function load(address) {
  if (!methods.has(address)) {
    const response = await fetch(address);
    if (!response.ok) throw new Error(`${address} could not be loaded (${response.status}); reload the page`);
    methods.set(address, readMethod(await response.arrayBuffer()));
  }
  return methods.get(address);
}

async function reply({ ask, address, support, images, last }) {
  const method = await load(address);
  if (ask === "adapt") {
    states.set(address, []);
    for (const state of method.states(support)) {
      states.get(address).push(state.theta);
      postMessage({ address, k: states.get(address).length - 1, trace: state.trace ?? null });
    }
  } else {
    const thetas = last ? states.get(address).slice(-1) : states.get(address);
    postMessage({ address, logits: thetas.map((theta) => method.logits(theta, images)) });
  }
}

let done = Promise.resolve();
onmessage = ({ data }) => {
  done = done.then(() => reply(data)).catch((error) => postMessage({ address: data.address, error: error.message }));
};
