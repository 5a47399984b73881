// One batch of one unit, divided over ranks or micro-batches: each part normalized by its own statistics, or all by the
// pooled ones. The reader moves the values, and divides them otherwise.

import { axes, counted, figure, make, scale, told } from "./kit.js";

const EPS = 1e-5;

export const moments = (x) => {
  const mean = x.reduce((sum, one) => sum + one, 0) / x.length;
  return { count: x.length, mean, variance: x.reduce((sum, one) => sum + (one - mean) ** 2, 0) / x.length };
};

// From the moments of the parts those of the whole: the mean of the variances, and the variance of the means.
export const pooled = (parts) => {
  const count = parts.reduce((sum, part) => sum + part.count, 0);
  const average = (of) => parts.reduce((sum, part) => sum + (part.count / count) * of(part), 0);
  const mean = average((part) => part.mean);
  const [within, between] = [average((part) => part.variance), average((part) => (part.mean - mean) ** 2)];
  return { count, mean, within, between, variance: within + between };
};

// What batch norm makes of x in so many equal parts: by each part's own statistics, and by the pooled ones.
export const divided = (x, parts) => {
  const size = x.length / parts;
  const own = Array.from({ length: parts }, (_, p) => moments(x.slice(p * size, (p + 1) * size)));
  const whole = pooled(own);
  const by = ({ mean, variance }) => (one) => (one - mean) / Math.sqrt(variance + EPS);
  return { own, whole, alone: x.map((one, i) => by(own[Math.floor(i / size)])(one)), together: x.map(by(whole)) };
};

const LINE = [0, 20], REACH = [-2.8, 2.8], HIGH = 192, TOP = 34;
const WAYS = { own: "ranks", synchronized: "synchronized ranks", micro: "micro-batches" };

export default {
  render({ model, el }) {
    const panels = (width) => {  // of the values and of the outputs: left, top, right, bottom
      const left = 62;
      if (width < 480) return [[left, TOP, width - 14, TOP + HIGH], [left, TOP + HIGH + 78, width - 14, TOP + 2 * HIGH + 78]];
      const half = (width - left - 44) / 2;
      return [[left, TOP, left + half, TOP + HIGH], [left + half + 30, TOP, left + 2 * half + 30, TOP + HIGH]];
    };
    const partsOf = ({ split }) => 2 ** Math.round(split);
    const moved = (x, i, value) => ({ x: x.map((one, j) => (j === i ? Math.round(2 * value) / 2 : one)) });
    const along = (width) => scale(LINE, [panels(width)[0][0], panels(width)[0][2]]);
    const at = (i) => ((i + 0.5) * HIGH) / model.get("x").length;  // each value has a height of its own

    const { svg, handle, close } = figure({
      model,
      el,
      label: "Values of one unit on several ranks, and what batch norm makes of them",
      height: 1,
      moves: { x: LINE },
      sliders: [{ name: "split", label: "parts", min: 0, max: 3, step: 1, told: (split) => `${partsOf({ split })}` }],
      choices: [{ name: "way", label: "The parts are", options: WAYS }],
      buttons: [["deal again", ({ x }) => ({ x: x.map((_, i) => x[(3 * i + 1) % x.length]) })], ["start again", (_, start) => start]],
      draw: (state, ground, width) => {
        const { x, way } = state;
        const parts = partsOf(state), size = x.length / parts, row = HIGH / parts;
        const { own, whole, alone, together } = divided(x, parts);
        const synchronized = way === "synchronized", outputs = synchronized ? together : alone;
        const [values, after] = panels(width);
        svg.setAttribute("height", after[3] + 46);
        const before = axes(ground, values, { x: { domain: LINE, ticks: [0, 5, 10, 15, 20], name: "value" }, y: { domain: [0, 1] } });
        const behind = axes(ground, after, { x: { domain: REACH, ticks: [-2, -1, 0, 1, 2], name: "output" }, y: { domain: [0, 1] } });
        make(ground, "text", { x: values[0], y: values[1] - 14, class: synchronized ? "bn-2" : "bn-1" }, synchronized ? "pooled mean ± std" : "each part's mean ± std");
        make(ground, "text", { x: after[0], y: after[1] - 14, class: "bn-2" }, "○ by the whole batch");
        if (!synchronized) make(ground, "text", { x: after[2], y: after[1] - 14, class: "bn-1", "text-anchor": "end" }, "● by its part");
        const band = ({ mean, variance }, top, bottom, kind) => {
          const [low, high] = [-1, 1].map((side) => Math.min(values[2], Math.max(values[0], before.x(mean + side * Math.sqrt(variance)))));
          make(ground, "rect", { x: low, y: top, width: high - low, height: bottom - top, class: `bn-area ${kind}` });
          make(ground, "line", { x1: before.x(mean), x2: before.x(mean), y1: top, y2: bottom, class: `bn-line ${kind}` });
        };
        if (synchronized) band(whole, values[1], values[3], "bn-2");
        own.forEach((part, p) => {
          for (const [left, top, right] of [values, after]) {
            if (p) make(ground, "line", { x1: left, x2: right, y1: top + p * row, y2: top + p * row, class: "bn-grid" });
            make(ground, "text", { x: values[0] - 8, y: top + (p + 0.5) * row + 4, "text-anchor": "end", class: "bn-name" }, left === after[0] && after[0] !== values[0] ? "" : `${way === "micro" ? "micro" : "rank"} ${p + 1}`);
          }
          if (!synchronized) band(part, values[1] + p * row + 3, values[1] + (p + 1) * row - 3, "bn-1");
        });
        outputs.forEach((output, i) => {
          const y = after[1] + at(i);
          make(ground, "line", { x1: behind.x(output), x2: behind.x(together[i]), y1: y, y2: y, class: "bn-line bn-thin bn-1" });
          make(ground, "circle", { cx: behind.x(together[i]), cy: y, r: 6.5, class: "bn-ring bn-2" });
          make(ground, "circle", { cx: behind.x(output), cy: y, r: 4, class: `bn-dot ${synchronized ? "bn-2" : "bn-1"}` });
        });
        const off = outputs.reduce((sum, one, i) => sum + Math.abs(one - together[i]), 0) / x.length;
        const sum = `Pooled: mean ${told(whole.mean, 2)}, variance ${told(whole.within, 2)} within the parts + ${told(whole.between, 2)} between their means = ${told(whole.variance, 2)}.`;
        if (parts === 1) return `All ${x.length} values are in one place: there is nothing to exchange. ${sum}`;
        if (synchronized) return `The ${parts} ranks send count, mean and variance to each other, and every output is that of the whole batch. ${sum}`;
        const lost = size === 1 ? " Alone, a value is its own mean, and its output is 0." : size === 2 ? " Of two values only which is larger is left." : "";
        const later = way === "micro" ? " A later micro-batch is not there yet, so nothing can be exchanged." : "";
        return `By the statistics of ${counted(size, "value")} each, outputs are ${told(off, 2)} off those of the whole batch, on average.${lost}${later} ${sum}`;
      },
    });
    model.get("x").forEach((_, i) => handle({
      label: `Value ${i + 1}`,
      bounds: LINE,
      kind: "bn-0",
      at: ({ x }) => [along(svg.clientWidth)(x[i]), TOP + at(i)],
      drag: ([right], { x }) => moved(x, i, along(svg.clientWidth).invert(right)),
      keys: ([right, up], { x }) => moved(x, i, x[i] + (Math.abs(right + up) > 1 ? 3 * Math.sign(right) : (right + up) / 2)),
      say: (state) => {
        const { alone, together } = divided(state.x, partsOf(state));
        return [state.x[i], `${told(state.x[i])} becomes ${told((state.way === "synchronized" ? together : alone)[i], 2)}`];
      },
    }));
    return close;
  },
};
