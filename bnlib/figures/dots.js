// Batch norm of one unit: its values on a line, each a dot that can be moved, and what becomes of them on a line below.

import { axes, figure, make, scale, told } from "./kit.js";

// The page's formula: biased variance, eps inside the root.
export const normalize = (x, gamma, beta, eps) => {
  const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
  const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length;
  return { mean, variance, y: x.map((value) => (gamma * (value - mean)) / Math.sqrt(variance + eps) + beta) };
};

const LINE = [-4, 24];  // the upper one; the lower one shows REACH on either side of 0
const REACH = 5;
const LEFT = 22, ABOVE = 88, BELOW = 196;
const NEAR = 19;  // pixels between two dots that would hide each other: then one stands higher

export default {
  render({ model, el }) {
    const upper = (width) => scale(LINE, [LEFT, width - LEFT]);
    const seen = ({ x, n, gamma, beta, log_eps }) => normalize(x.slice(0, n), gamma, beta, 10 ** log_eps);
    const moved = (x, i, value) => ({ x: x.map((one, j) => (j === i ? Math.round(10 * value) / 10 : one)) });
    let heights = [];  // of the dots

    const { svg, handle, close } = figure({
      model,
      el,
      label: "Values of one unit, and what batch norm makes of them",
      height: 244,
      moves: { x: LINE },
      sliders: [
        { name: "n", label: "examples", min: 2, max: 16, step: 1, digits: 0 },
        { name: "gamma", label: "γ", min: -2, max: 3, step: 0.1 },
        { name: "beta", label: "β", min: -2, max: 2, step: 0.1 },
        { name: "log_eps", label: "log₁₀ ε", min: -5, max: 2, step: 0.5 },
      ],
      buttons: [
        ["add 3 to all", ({ x }) => ({ x: x.map((value) => value + 3) })],
        ["halve all", ({ x }) => ({ x: x.map((value) => value / 2) })],
        ["move the others", ({ x }) => ({ x: x.map((value, i) => (i ? LINE[0] + ((7 * (value - LINE[0]) + 3 * i + 5) % (LINE[1] - LINE[0])) : value)) })],
        ["start again", (_, start) => start],
      ],
      draw: (state, ground, width) => {
        const { n, gamma, beta } = state;
        const x = state.x.slice(0, n);
        const { mean, variance, y } = seen(state);
        const most = Math.sqrt(n - 1);
        const line = (height, domain, ticks) => axes(ground, [LEFT, height, width - LEFT, height], { x: { domain, ticks }, y: { domain: [0, 1] } }).x;
        const above = line(ABOVE, LINE, [0, 5, 10, 15, 20]);
        const lower = line(BELOW, [-REACH, REACH], [-4, -2, 0, 2, 4]);
        const below = (value) => lower(Math.min(REACH, Math.max(-REACH, value)));
        for (const [height, name] of [[ABOVE, "before"], [BELOW, "after"]]) make(ground, "text", { x: width - LEFT, y: height - 8, "text-anchor": "end", class: "bn-name" }, name);
        for (const side of [-1, 1]) {
          const bound = below(beta + side * Math.abs(gamma) * most);
          make(ground, "line", { x1: bound, x2: bound, y1: BELOW - 24, y2: BELOW, class: "bn-bound" });
        }
        heights = [];
        x.forEach((value, i) => {
          const at = above(value);
          let height = ABOVE;
          while (heights.some((other, j) => Math.abs(above(x[j]) - at) < NEAR && height === other)) height -= NEAR;
          heights.push(height);
          const kind = i ? "bn-1" : "bn-2";
          make(ground, "line", { x1: at, y1: height, x2: below(y[i]), y2: BELOW, class: `bn-line bn-thread ${kind}` });
          make(ground, "circle", { cx: below(y[i]), cy: BELOW, r: 5, class: `bn-dot ${kind}` });
        });
        return `Mean ${told(mean)}, standard deviation ${told(Math.sqrt(variance))}. `
          + `The orange ${told(x[0])} becomes ${told(y[0], 2)}. With ${n} examples no standard score is beyond √${n - 1} = ${told(most, 2)}.`;
      },
    });
    model.get("x").forEach((_, i) => handle({
      label: `Example ${i + 1}`,
      bounds: LINE,
      kind: i ? "bn-1" : "bn-2",
      at: ({ x, n }) => (i < n ? [upper(svg.clientWidth)(x[i]), heights[i]] : null),
      drag: ([right], { x }) => moved(x, i, upper(svg.clientWidth).invert(right)),
      keys: ([right, up], { x }) => moved(x, i, x[i] + (Math.abs(right + up) > 1 ? 3 * Math.sign(right) : (right + up) / 2)),
      say: (state) => [state.x[i], `${told(state.x[i])} becomes ${told(seen(state).y[i], 2)}`],
    }));
    return close;
  },
};
