// The running average of a unit's mean while its network trains, and what its error consists of: what is left of its
// start, the noise of the batches, and lag, the batches of older weights. Batches and true means were computed in the
// notebook; the page averages them.

import { axes, figure, make, told } from "./kit.js";

// The weight of each of the first t batches, oldest first, and that of the start; momentum is the weight of the newest.
export const weights = (momentum, t, corrected) => {
  const left = (1 - momentum) ** t;
  const of = Array.from({ length: t }, (_, k) => momentum * (1 - momentum) ** (t - 1 - k));
  return corrected ? { start: 0, batches: of.map((weight) => weight / (1 - left)) } : { start: left, batches: of };
};

// The average after t batches, and its error in three parts, which add up. batches[k] is a mean over a batch of the
// network after k steps, truth[k] that over all images; the average starts at 0.
export const split = (batches, truth, momentum, t, corrected) => {
  const weight = weights(momentum, t, corrected);
  const sum = (of) => weight.batches.reduce((total, one, k) => total + one * of(k), 0);
  return {
    average: sum((k) => batches[k]),
    start: weight.start * (0 - truth[t]),
    noise: sum((k) => batches[k] - truth[k]),
    lag: sum((k) => truth[k] - truth[t]),
    age: sum((k) => t - 1 - k) / sum(() => 1),
  };
};

// The average after each batch.
export const running = (batches, momentum, corrected) => {
  let average = 0;
  return batches.map((one, k) => {
    average = (1 - momentum) * average + momentum * one;
    return corrected ? average / (1 - (1 - momentum) ** (k + 1)) : average;
  });
};

const PARTS = { start: "bn-4", noise: "bn-3", lag: "bn-2" };
const TOP = 32, BOTTOM = 232, BARS = 288, ROW = 23;
const signed = (value) => (value < 0 ? "" : "+") + told(value, 3);

export default {
  render({ model, el }) {
    const [momenta, streams, truth] = ["momenta", "streams", "truth"].map((name) => model.get(name));
    const last = truth.length - 1;
    const values = Object.values(streams).flat();
    const [low, high] = [Math.min(...values) - 0.01, Math.max(...values) + 0.01];
    const seen = ({ momentum, n, corrected, step }) => split(streams[n], truth, momenta[Math.round(momentum)], Math.round(step), corrected);
    const plot = (ground, width) => axes(ground, [50, TOP, width - 20, BOTTOM], {
      x: { domain: [0, last], ticks: [0, 100, 200, 300], name: "batches seen" },
      y: { domain: [low, high], ticks: [-0.4, -0.2, 0, 0.2] },
    });

    const { svg, handle, close } = figure({
      model,
      el,
      label: "The running average of a unit's mean, and the parts of its error",
      height: BARS + 4 * ROW + 44,
      moves: { step: [1, last] },
      sliders: [{ name: "momentum", label: "momentum", min: 0, max: momenta.length - 1, step: 1, told: (i) => `${momenta[Math.round(i)]}` }],
      choices: [
        { name: "n", label: "Batches of", options: Object.fromEntries(Object.keys(streams).map((n) => [n, n])) },
        { name: "corrected", label: "correct the start" },
      ],
      buttons: [["start again", (_, start) => start]],
      draw: (state, ground, width) => {
        const momentum = momenta[Math.round(state.momentum)], t = Math.round(state.step);
        const above = plot(ground, width);
        const batches = streams[state.n];
        batches.forEach((one, k) => above.dot(k + 1, one, "bn-0", 1.4));
        above.line(truth.map((one, k) => [k, one]), "bn-0").style.stroke = "var(--bn-ink)";
        above.line([...(state.corrected ? [] : [[0, 0]]), ...running(batches, momentum, state.corrected).map((one, k) => [k + 1, one])], "bn-1");
        const error = seen(state), total = error.start + error.noise + error.lag;
        make(ground, "line", { x1: above.x(t), x2: above.x(t), y1: above.y(error.average), y2: above.y(truth[t]), class: "bn-line bn-1" }).style.strokeWidth = 4;
        [[width < 420 ? "· batches" : "· means of batches", "bn-0", "start", 50], ["— true mean", "", "middle", (width + (width < 420 ? 36 : 60)) / 2], ["— average", "bn-1", "end", width - 12]].forEach(([name, kind, anchor, x]) => make(ground, "text", { x, y: TOP - 12, "text-anchor": anchor, class: kind }, name));
        const bars = axes(ground, [50, BARS, width - 58, BARS + 4 * ROW], { x: { domain: [-0.45, 0.45], ticks: [-0.4, -0.2, 0, 0.2, 0.4], name: `error after ${t} of ${last} batches` }, y: { domain: [0, 1] } });
        make(ground, "line", { x1: bars.x(0), x2: bars.x(0), y1: BARS, y2: BARS + 4 * ROW });
        [...Object.entries(PARTS), ["sum", "bn-1"]].forEach(([name, kind], i) => {
          const value = name === "sum" ? total : error[name];
          const to = bars.x(Math.max(-0.45, Math.min(0.45, value)));
          make(ground, "text", { x: 42, y: BARS + (i + 0.5) * ROW + 4, "text-anchor": "end", class: kind }, name);
          make(ground, "rect", { x: Math.min(to, bars.x(0)), y: BARS + i * ROW + 4, width: Math.max(1, Math.abs(to - bars.x(0))), height: ROW - 8, class: `bn-dot ${kind}` });
          make(ground, "text", { x: width - 6, y: BARS + (i + 0.5) * ROW + 4, "text-anchor": "end", class: kind }, signed(value));
        });
        const largest = Object.keys(PARTS).reduce((most, name) => (Math.abs(error[name]) > Math.abs(error[most]) ? name : most));
        const why = {
          start: `${told(100 * (1 - momentum) ** t, 0)} % of the start at 0 is left`,
          noise: `the batches' own noise`,
          lag: `the batches are ${told(error.age)} steps old on average, and the weights have moved on`,
        };
        return `After ${t} batches the average is ${told(error.average, 3)}, the true mean ${told(truth[t], 3)}: off by ${signed(total)} = start ${signed(error.start)}, noise ${signed(error.noise)}, lag ${signed(error.lag)}. `
          + `Largest is the ${largest}: ${why[largest]}.`;
      },
    });
    const place = (state) => {
      const nowhere = document.createElementNS("http://www.w3.org/2000/svg", "g");
      const { x, y } = plot(nowhere, svg.clientWidth);
      return [x(state.step), Math.min(BOTTOM, Math.max(TOP, y(seen(state).average)))];
    };
    handle({
      label: "Batches seen",
      bounds: [1, last],
      at: place,
      drag: ([right]) => ({ step: Math.round(((right - 50) / (svg.clientWidth - 70)) * last) }),
      keys: ([right, up], { step }) => ({ step: Math.round(step) + right + up }),
      say: (state) => [Math.round(state.step), `${Math.round(state.step)}, the average ${told(seen(state).average, 3)}`],
    });
    return close;
  },
};
