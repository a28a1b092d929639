// The drawing panel in a notebook: the kernel adapts. Drawings travel as bytes, what comes back as JSON.

import { DrawingPanel } from "./drawing.js";

function render({ model, el }) {
  const connect = ({ step, answer, fail }) => {
    const replies = { step: ({ method, k, trace }) => step(method, k, trace), answer: ({ method, probabilities }) => answer(method, probabilities), fail: ({ message }) => fail(message) };
    model.on("msg:custom", (message) => replies[message.reply]?.(message));
    return {
      adapt: ({ images, labels, names }, drawn) => model.send({ ask: "adapt", labels, names, drawn }, undefined, images.map((image) => image.buffer)),
      answer: (image, drawn) => model.send({ ask: "answer", drawn }, undefined, [image.buffer]),
    };
  };
  el.panel = new DrawingPanel(el, connect, { methods: model.get("methods"), example: model.get("example") });
  return () => model.off("msg:custom");
}

export default { render };
