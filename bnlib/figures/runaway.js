// One unit, four examples, normalized behind its gradient's back: a bias before a centring, or a weight before a division
// by the standard deviation. Above, the unit's values and its outputs; below, the parameter and the loss, step by step.

import { axes, figure, make, told } from "./kit.js";

const U = [0, 1, 3, 4];
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const spread = (values) => Math.sqrt(mean(values.map((value) => (value - mean(values)) ** 2)));
const V = U.map((value) => (value - mean(U)) / spread(U));

// The page's formulas. What is wished: outputs larger by 1, or c times as large. The gradient takes the mean, or the standard
// deviation, for a constant, or for what it is. If learned, a shift or a scale behind it goes down its gradient, too.
export const run = ({ wish, takes, learned, steps, rate }) => {
  const shift = wish === "shift";
  const target = shift ? U.map((value) => value - mean(U) + 1) : V.map((value) => value * { double: 2, half: 0.5 }[wish]);
  let [own, behind] = shift ? [0, 0] : [1, 1];  // the parameter before the normalization, and the one behind it
  return Array.from({ length: steps + 1 }, () => {
    const x = shift ? U.map((value) => value + own) : V.map((value) => value * own);
    const scale = shift ? 1 : spread(x);
    const xhat = shift ? x.map((value) => value - mean(x)) : x.map((value) => value / scale);
    const y = xhat.map((value) => (shift ? value + behind : value * behind));
    const dy = y.map((value, i) => (value - target[i]) / U.length);
    const dxhat = dy.map((value) => (shift ? value : value * behind));
    const taken = takes === "constants" ? 0 : mean(dxhat.map((value, i) => (shift ? value : value * xhat[i])));
    const dx = dxhat.map((value, i) => (value - (shift ? taken : taken * xhat[i])) / scale);
    const gradient = dx.reduce((sum, value, i) => sum + value * (shift ? 1 : V[i]), 0);
    const now = { own, behind, x, y, target, gradient, loss: mean(y.map((value, i) => (value - target[i]) ** 2)) / 2 };
    own -= rate * gradient;
    if (learned) behind -= rate * dy.reduce((sum, value, i) => sum + value * (shift ? 1 : xhat[i]), 0);
    return now;
  });
};

const MOST = 40;
const LOOKS = {
  shift: { own: "b", behind: "β", line: [-3, 25], ticks: [0, 5, 10, 15, 20], domain: [-1, 20], steps: [0, 10, 20] },
  double: { own: "a", behind: "γ", line: [-9, 9], ticks: [-8, -4, 0, 4, 8], domain: [0, 7], steps: [0, 2, 4, 6] },
  half: { own: "a", behind: "γ", line: [-9, 9], ticks: [-8, -4, 0, 4, 8], domain: [-4, 4], steps: [-4, -2, 0, 2, 4] },
};
const SIDE = 16, ABOVE = 44, BELOW = 122, TOP = 196;

export default {
  render({ model, el }) {
    const { close } = figure({
      model,
      el,
      label: "Values and outputs of one unit, and its parameter and loss over the steps",
      height: 360,
      sliders: [
        { name: "steps", label: "steps", min: 0, max: MOST, step: 1, digits: 0 },
        { name: "rate", label: "learning rate", min: 0.05, max: 0.5, step: 0.05, digits: 2 },
      ],
      choices: [
        { name: "wish", label: "The loss wants outputs", options: { shift: "larger by 1", double: "twice as large", half: "half as large" } },
        { name: "takes", label: "The gradient takes the statistic for", options: { constants: "a constant", whole: "what it is" } },
        { name: "learned", label: "learn a shift or scale behind it" },
      ],
      buttons: [
        ["10 steps on", ({ steps }) => ({ steps: steps < MOST ? steps + 10 : 0 })],
        ["start again", (_, start) => start],
      ],
      draw: (state, ground, width) => {
        const { steps, wish, takes, learned } = state;
        const look = LOOKS[wish], history = run({ ...state, steps: MOST }), now = history[steps];
        const wide = width > 460;
        const cut = ([left, top, right, bottom]) => make(ground, "svg", { x: left, y: top, width: right - left, height: bottom - top, viewBox: `${left} ${top} ${right - left} ${bottom - top}` });

        const line = (height) => axes(ground, [SIDE, height, width - SIDE, height], { x: { domain: look.line, ticks: look.ticks }, y: { domain: [0, 1] } }).x;
        const [upper, lower] = [line(ABOVE), line(BELOW)];
        const lines = cut([0, 0, width, BELOW + 12]);
        make(ground, "text", { x: SIDE, y: ABOVE - 22, class: "bn-2" }, wish === "shift" ? "values u + b" : "values a v");
        make(ground, "text", { x: width - SIDE - 60, y: BELOW - 20, "text-anchor": "end", class: "bn-1" }, "outputs");
        make(ground, "text", { x: width - SIDE, y: BELOW - 20, "text-anchor": "end", class: "bn-3" }, "wanted");
        now.x.forEach((value, i) => {
          make(lines, "line", { x1: upper(value), y1: ABOVE, x2: lower(now.y[i]), y2: BELOW, class: "bn-line bn-thread bn-0" });
          make(lines, "circle", { cx: lower(now.target[i]), cy: BELOW, r: 7, class: "bn-ring bn-3" });
        });
        now.x.forEach((value, i) => {
          make(lines, "circle", { cx: upper(value), cy: ABOVE, r: 5, class: "bn-dot bn-2" });
          make(lines, "circle", { cx: lower(now.y[i]), cy: BELOW, r: 4, class: "bn-dot bn-1" });
        });

        const middle = wide ? Math.round(width / 2) : width;
        const boxes = [[40, TOP, middle - 24, TOP + 110], wide ? [middle + 34, TOP, width - SIDE, TOP + 110] : [40, TOP + 196, width - 24, TOP + 286]];
        ground.ownerSVGElement.setAttribute("height", boxes[1][3] + 46);
        const chart = (box, y, curves) => {
          axes(ground, box, { x: { domain: [0, MOST], ticks: [0, 10, 20, 30, 40], name: "steps" }, y });
          const inner = axes(cut([box[0], box[1] - 5, box[2] + 5, box[3] + 5]), box, { x: { domain: [0, MOST] }, y: { domain: y.domain } });
          for (const [key, kind] of curves) {
            const points = history.map((one, k) => [k, one[key]]);
            inner.line(points, `${kind} bn-thin bn-dashed`);
            inner.line(points.slice(0, steps + 1), kind);
            inner.dot(steps, now[key], kind);
          }
        };
        chart(boxes[0], { domain: look.domain, ticks: look.steps, name: wish === "shift" ? "bias b" : "weight a" }, [["own", "bn-2"], ...(learned ? [["behind", "bn-4"]] : [])]);
        if (learned) make(ground, "text", { x: boxes[0][0] + 62, y: TOP - 8, class: "bn-4" }, wish === "shift" ? "and β" : "and γ");
        chart(boxes[1], { domain: [0, 1.2], ticks: [0, 0.5, 1], name: "loss" }, [["loss", "bn-1"]]);
        const first = history[0];
        return `The gradient takes the ${wish === "shift" ? "mean" : "standard deviation"} for ${takes === "constants" ? "a constant" : "what it is"}. `
          + `After ${steps} steps ${look.own} has gone from ${told(first.own, 2)} to ${told(now.own, 2)}${learned ? `, ${look.behind} from ${told(first.behind, 2)} to ${told(now.behind, 2)}` : ""}, `
          + `and the loss from ${told(first.loss, 3)} to ${told(now.loss, 3)}. The gradient of ${look.own} is now ${told(now.gradient, 2)}.`;
      },
    });
    return close;
  },
};
