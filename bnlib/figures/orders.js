// One step of a chain of layers, y = w w ... w: on the left what each order of the step adds to y, on the right y after the
// step over the learning rate, as the first orders promise it and in truth. All in units of y before the step.

import { axes, clamp, figure, make, scale, told } from "./kit.js";

// The page's formula: the product of w - rate * g, split by the power of the rate.
export const orders = (weights, gradients, rate) => weights.reduce(
  (terms, weight, i) => [...terms, 0].map((term, k) => weight * term - (k ? rate * gradients[i] * terms[k - 1] : 0)),
  [1],
);

// The terms of a step that makes y smaller or larger, the loss's slope in y being 1 or -1, divided by y before it.
export const step = ({ layers, weight, aim, rate }) => {
  const weights = Array(layers).fill(weight);
  const gradients = weights.map(() => (aim === "smaller" ? 1 : -1) * weight ** (layers - 1));
  return orders(weights, gradients, rate).map((term) => term / weight ** layers);
};

const RATES = [0, 0.5];
const REACH = { smaller: { domain: [-3, 3], ticks: [-3, -2, -1, 0, 1, 2, 3] }, larger: { domain: [0, 10], ticks: [0, 2, 4, 6, 8, 10] } };
const TOP = 34;

const places = (width) => {
  const wide = width > 460;
  const high = wide ? 210 : 160;
  const right = width - 92, below = wide ? TOP : TOP + high + 84;  // where the curves' names stand; where their box begins
  const middle = Math.round(0.44 * width);
  return { wide, left: [44, TOP, wide ? middle - 14 : width - 16, TOP + high], curves: [wide ? middle + 30 : 44, below, right, below + high], height: below + high + 48 };
};
const large = (value) => {
  if (Math.abs(value) < 1e4) return told(value, Math.abs(value) < 100 ? 2 : 0);
  const power = Math.floor(Math.log10(Math.abs(value)));
  return `${told(value / 10 ** power)} · 10${[...String(power)].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("")}`;
};
const sums = (terms) => terms.map((_, k) => terms.slice(0, k + 1).reduce((sum, term) => sum + term, 0));
const kinds = (order) => (order > 2 ? "bn-1" : ["", "bn-0", "bn-2"][order]);

export default {
  render({ model, el }) {
    const { svg, handle, close } = figure({
      model,
      el,
      label: "The orders of one step, and y after the step over the learning rate",
      height: 300,
      moves: { rate: [0.01, 0.5] },
      sliders: [
        { name: "layers", label: "layers", min: 2, max: 12, step: 1, digits: 0 },
        { name: "weight", label: "all weights", min: 0.8, max: 1.2, step: 0.05, digits: 2 },
      ],
      choices: [{ name: "aim", label: "Make y", options: { smaller: "smaller", larger: "larger" } }],
      buttons: [["start again", (_, start) => start]],
      draw: (state, ground, width) => {
        const { layers, weight, aim, rate } = state;
        const at = places(width), reach = REACH[aim];
        ground.ownerSVGElement.setAttribute("height", at.height);
        const known = sums(step(state));
        const inside = ([left, top, right, bottom]) => make(ground, "svg", { x: left, y: top, width: right - left, height: bottom - top, viewBox: `${left} ${top} ${right - left} ${bottom - top}` });

        const ticks = Array.from({ length: layers }, (_, k) => k + 1).filter((k) => layers < 9 || k % 2);
        const falls = { x: { domain: [0.4, layers + 0.6], ticks, name: "order" }, y: { ...reach, name: "y, order by order, ÷ y before" } };
        axes(ground, at.left, falls);
        const bars = axes(inside(at.left), at.left, { x: { domain: falls.x.domain }, y: { domain: reach.domain } });
        const half = clamp((bars.x(2) - bars.x(1)) * 0.36, 4, 16);
        known.slice(1).forEach((sum, k) => {  // a bar from the sum so far to the next, with a point at its end
          const [from, to] = [known[k], sum].map((one) => clamp(bars.y(one), -900, 1500));
          const [x, point] = [bars.x(k + 1), clamp(to - from, -7, 7)];
          bars.line([[k + 1, known[k]], [k ? k : 0.4, known[k]]], "bn-0 bn-thin");
          bars.line([], kinds(k + 1) + " bn-bar", { d: `M${x - half} ${from}H${x + half}V${to - point}L${x} ${to}L${x - half} ${to - point}Z` });
        });
        bars.line([[layers, known[layers]], [layers + 0.6, known[layers]]], "bn-1");

        const [left, top, right, bottom] = at.curves;
        axes(ground, at.curves, { x: { domain: RATES, ticks: [0, 0.1, 0.2, 0.3, 0.4, 0.5], name: "learning rate" }, y: { ...reach, name: "y after the step ÷ y before" } });
        const curves = axes(inside(at.curves), at.curves, { x: { domain: RATES }, y: { domain: reach.domain } });
        const grid = Array.from({ length: 101 }, (_, i) => i / 200);
        const runs = grid.map((one) => sums(step({ layers, weight, aim, rate: one })));
        const shown = [[1, "order 1", "bn-0"], [2, "orders 1, 2", "bn-2"], [layers, `all ${layers}`, "bn-1"]].filter(([upto], i) => i !== 1 || upto < layers);
        make(ground, "line", { x1: curves.x(rate), x2: curves.x(rate), y1: top, y2: bottom, class: "bn-bound" });
        const names = [];
        for (const [upto, name, kind] of shown) {
          curves.line(grid.map((one, i) => [one, runs[i][upto]]), kind);
          curves.dot(rate, known[upto], kind, 4.5);
          names.push([clamp(curves.y(runs.at(-1)[upto]), top + 4, bottom - 4), name, kind, runs.at(-1)[upto]]);
        }
        names.sort(([, , , a], [, , , b]) => b - a);
        for (let pass = 0; pass < 4; pass++) for (let i = 1; i < names.length; i++) {  // names that stand on each other move apart
          const near = Math.max(0, 17 - (names[i][0] - names[i - 1][0])) / 2;
          names[i - 1][0] -= near;
          names[i][0] += near;
        }
        const over = Math.max(0, names.at(-1)[0] - bottom), under = Math.max(0, top - names[0][0]);
        for (const [y, name, kind] of names) make(ground, "text", { x: right + 8, y: y - over + under + 4, class: kind }, name);
        if (at.wide && known[layers] >= reach.domain[0] && known[layers] <= reach.domain[1]) {
          make(ground, "line", { x1: at.left[2], x2: curves.x(rate), y1: curves.y(known[layers]), y2: curves.y(known[layers]), class: "bn-line bn-thin bn-dashed bn-1" });
        }
        const moved = 100 * rate * weight ** (layers - 2);
        const missed = Math.abs((known[layers] - known[1]) / (known[1] - 1));
        return `Each weight moves by ${told(moved, moved < 10 ? 1 : 0)} % of itself. In units of y before the step, order 1 alone makes it ${large(known[1])}, `
          + `${layers > 2 ? `orders 1 and 2 make it ${large(known[2])}, and all ${layers} make it` : "and both orders make it"} ${large(known[layers])}. `
          + `What order 1 leaves out is ${large(missed)} times what it promises.`;
      },
    });
    const along = (width) => scale(RATES, [places(width).curves[0], places(width).curves[2]]);
    const rounded = (value) => ({ rate: Math.round(100 * value) / 100 });
    handle({
      label: "Learning rate",
      bounds: [0.01, 0.5],
      kind: "bn-4",
      at: ({ rate }) => [along(svg.clientWidth)(rate), places(svg.clientWidth).curves[3]],
      drag: ([x]) => rounded(along(svg.clientWidth).invert(x)),
      keys: ([right, up], { rate }) => rounded(rate + (Math.abs(right + up) > 1 ? 0.05 * Math.sign(right) : (right + up) / 100)),
      say: (state) => [state.rate, `${told(state.rate, 2)}: y becomes ${large(sums(step(state)).at(-1))}`],
    });
    return close;
  },
};
