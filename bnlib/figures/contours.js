// A cloud of data with two inputs, which the reader moves, turns and stretches, and beside it the contours of the loss of
// the two weights (least squares, without a bias) with the path of gradient descent.

import { axes, figure, make, told } from "./kit.js";

export const STEPS = 100_000;  // what is not there by then counts as never
const START = [0.1, 1];  // the error of the weights
const SHARE = 1e-3;

// The cloud: a point u of the white cloud becomes centre + u1 along + u2 across.
export const placed = (white, { centre, along, across }) => white.map(([p, q]) => [0, 1].map((i) => centre[i] + p * along[i] + q * across[i]));
// The page's formulas: X'X / N as [a, b, d] for the matrix [[a, b], [b, d]]; its eigenvalues, largest first, and angle.
export const hessian = (points) => [[0, 0], [0, 1], [1, 1]].map(([i, j]) => points.reduce((sum, point) => sum + point[i] * point[j], 0) / points.length);
export const eigen = ([a, b, d]) => {
  const [middle, half] = [(a + d) / 2, Math.hypot((a - d) / 2, b)];
  return { values: [middle + half, Math.max(1e-9, middle - half)], angle: Math.atan2(2 * b, a - d) / 2 };
};
// The error after t steps from START, along and across the first eigenvector: each shrinks by its own factor.
const parts = (angle) => [START[0] * Math.cos(angle) + START[1] * Math.sin(angle), START[1] * Math.cos(angle) - START[0] * Math.sin(angle)];
export const errorAfter = (t, { values, angle }, rate) => {
  const [first, second] = parts(angle).map((part, i) => part * (1 - rate * values[i]) ** t);
  return [first * Math.cos(angle) - second * Math.sin(angle), first * Math.sin(angle) + second * Math.cos(angle)];
};
// The first step at which the error is small enough, or Infinity: the length only falls, so it can be bisected.
export const stepsUntil = (shape, rate) => {
  const short = (t) => Math.hypot(...errorAfter(t, shape, rate)) <= SHARE * Math.hypot(...START);
  if (rate * shape.values[0] >= 2 || !short(STEPS)) return Infinity;
  let [low, high] = [0, STEPS];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    [low, high] = short(middle) ? [low, middle] : [middle, high];
  }
  return high;
};
// What a linear treatment M of the centred data makes of the cloud.
const treated = ({ along, across }, [a, b, c, d]) => ({
  centre: [0, 0], ...Object.fromEntries(Object.entries({ along, across }).map(([name, [x, y]]) => [name, [a * x + b * y, c * x + d * y].map((one) => Math.round(1e4 * one) / 1e4)])),
});
export const treatments = {
  centred: (state) => treated(state, [1, 0, 0, 1]),
  standardized: (state, white) => {
    const [a, , d] = hessian(placed(white, { ...state, centre: [0, 0] }));
    return treated(state, [1 / Math.sqrt(Math.max(a, 1e-9)), 0, 0, 1 / Math.sqrt(Math.max(d, 1e-9))]);
  },
  whitened: (state, white) => {  // ZCA: V / sqrt(values) V'
    const { values: [large, small], angle } = eigen(hessian(placed(white, { ...state, centre: [0, 0] })));
    const [c, s, p, q] = [Math.cos(angle), Math.sin(angle), 1 / Math.sqrt(large), 1 / Math.sqrt(small)];
    return treated(state, [p * c * c + q * s * s, (p - q) * c * s, (p - q) * c * s, p * s * s + q * c * c]);
  },
};

// A cloud with the rate that is best for it, as a part of the largest.
export const best = (state, white) => {
  const { values: [large, small] } = eigen(hessian(placed(white, state)));
  return { ...state, rate: large / (large + small) };
};

const DATA = 4, ERROR = 1.2;  // the panels reach so far on either side of 0
const TOP = 30, LEFT = 32, GAP = 40, ARM = 1.5;  // a handle sits so many standard deviations from the centre
const layout = (width) => {
  const narrow = width < 480;
  const size = narrow ? Math.min(240, width - 2 * LEFT) : (width - 2 * LEFT - GAP) / 2;
  const second = narrow ? [LEFT, TOP + size + 66] : [LEFT + size + GAP, TOP];
  return { data: [LEFT, TOP, LEFT + size, TOP + size], loss: [...second, second[0] + size, second[1] + size], height: second[1] + size + 42 };
};
const panel = (ground, box, reach, tick, x, y) => {
  const own = axes(ground, box, { x: { domain: [-reach, reach], ticks: [-tick, 0, tick], name: x }, y: { domain: [-reach, reach], ticks: [-tick, 0, tick], name: y } });
  make(ground, "line", { x1: own.x(0), x2: own.x(0), y1: box[1], y2: box[3], class: "bn-grid" });
  return own;
};

export default {
  render({ model, el }) {
    const white = model.get("white");
    const round = (value) => Math.round(100 * value) / 100;
    const shaped = (state) => eigen(hessian(placed(white, state)));
    let data;  // the scales of the data's panel

    const { handle, close } = figure({
      model,
      el,
      label: "A cloud of data, and the contours of the loss with the path of gradient descent",
      height: 330,
      moves: { centre: [-2, 2], along: [-1.5, 1.5], across: [-1.5, 1.5] },
      sliders: [{ name: "rate", label: "rate (1: the largest)", min: 0.05, max: 1.1, step: 0.05, digits: 2 }],
      buttons: [
        ["centre", (state) => best(treatments.centred(state, white), white)],
        ["standardize", (state) => best(treatments.standardized(state, white), white)],
        ["whiten", (state) => best(treatments.whitened(state, white), white)],
        ["best rate", (state) => ({ rate: best(state, white).rate })],
        ["start again", (_, start) => start],
      ],
      draw: (state, ground, width) => {
        const { data: first, loss: second, height } = layout(width);
        data = panel(ground, first, DATA, 3, "input 1", "the data: input 2");
        ground.ownerSVGElement.setAttribute("height", height);
        const shape = shaped(state), { values: [large, small], angle } = shape;
        const rate = (2 * state.rate) / large;
        for (const point of placed(white, state)) if (point.every((one) => Math.abs(one) < DATA)) data.dot(...point, "bn-1", 3).setAttribute("fill-opacity", 0.6);
        data.line([[0, 0], state.centre], "bn-4 bn-dashed");
        for (const arm of ["along", "across"]) data.line([state.centre, state.centre.map((one, i) => one + ARM * state[arm][i])], "bn-3");

        const loss = panel(ground, second, ERROR, 1, "error of weight 1", "the loss: error of weight 2");
        make(make(ground, "clipPath", { id: "bn-contours" }), "rect", { x: second[0], y: second[1], width: second[2] - second[0], height: second[3] - second[1] });
        const inside = { "clip-path": "url(#bn-contours)" };
        const [p, q] = parts(angle);
        for (const share of [1, 0.5, 0.2, 0.05]) {
          const level = share * (large * p * p + small * q * q);
          const turn = Array.from({ length: 181 }, (_, i) => (i * Math.PI) / 90);
          loss.line(turn.map((t) => [Math.sqrt(level / large) * Math.cos(t), Math.sqrt(level / small) * Math.sin(t)])
            .map(([u, v]) => [u * Math.cos(angle) - v * Math.sin(angle), u * Math.sin(angle) + v * Math.cos(angle)]), "bn-0 bn-thread", inside);
        }
        const near = ([a, b]) => Math.max(Math.abs(a), Math.abs(b)) < ERROR;
        const path = Array.from({ length: 201 }, (_, t) => errorAfter(t, shape, rate));
        const left = path.findIndex((one) => !near(one));  // what diverges is drawn until it leaves
        loss.line(left < 0 ? path : path.slice(0, left + 1), "bn-2 bn-thread", inside);
        path.slice(0, left < 0 ? 60 : left).forEach((one, i) => loss.dot(...one, "bn-2", i ? 3 : 5.5));
        loss.text(0, 0, "+", "bn-strong", { "text-anchor": "middle", dy: "0.35em" });

        const ratio = large / small, steps = stepsUntil(shape, rate);
        return `The condition number κ is ${ratio < 1e5 ? told(ratio, ratio < 9.95 ? 1 : 0) : "above 100,000"}. At ${told(state.rate, 2)} of the largest rate `
          + (steps < Infinity ? `a thousandth of the weights' error is left after ${steps.toLocaleString("en")} ${steps === 1 ? "step" : "steps"}.`
            : state.rate > 1 + 1e-9 ? `the steepest part of the weights' error grows by ${told(200 * (state.rate - 1), 0)}\u00a0% with each step.`
              : "more than a thousandth of the weights' error is left after 100,000 steps.");
      },
    });
    const reaching = (name, x, y) => (Math.hypot(x, y) < 0.1 ? {} : { [name]: [round(x), round(y)] });
    const arm = (name, label) => ({
      label,
      bounds: [-180, 180],
      kind: "bn-3",
      at: (state) => [data.x(state.centre[0] + ARM * state[name][0]), data.y(state.centre[1] + ARM * state[name][1])],
      drag: ([x, y], { centre }) => reaching(name, (data.x.invert(x) - centre[0]) / ARM, (data.y.invert(y) - centre[1]) / ARM),
      keys: ([right, up], { [name]: [x, y] }) => reaching(name, x + right / 10, y + (Math.abs(right + up) > 2 ? 0 : up / 10)),
      say: (state) => [Math.round((Math.atan2(state[name][1], state[name][0]) * 180) / Math.PI), `reaches ${told(state[name][0], 2)}, ${told(state[name][1], 2)} from the centre`],
    });
    handle({
      label: "Centre of the cloud",
      bounds: [-2, 2],
      kind: "bn-4",
      at: ({ centre: [x, y] }) => [data.x(x), data.y(y)],
      drag: ([x, y]) => ({ centre: [round(data.x.invert(x)), round(data.y.invert(y))] }),
      keys: ([right, up], { centre: [x, y] }) => ({ centre: [round(x + right / 10), round(y + (Math.abs(right + up) > 2 ? 0 : up / 10))] }),
      say: ({ centre: [x, y] }) => [x, `${told(x, 2)}, ${told(y, 2)}`],
    });
    handle(arm("along", "Long arm of the cloud"));
    handle(arm("across", "Short arm of the cloud"));
    return close;
  },
};
