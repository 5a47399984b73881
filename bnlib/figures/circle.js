// One unit of two weights behind a norm: it steps at random, always at right angles to its weights. Its path in the plane,
// and beside it the weights' length and the angle of each step, with decay and without.

import { axes, clamp, figure, make, told } from "./kit.js";

// The chapter's step: a gradient of length 1 / |w| across w, and decay. signs holds one digit for each step.
export const wander = (start, rate, decay, signs) => {
  const path = [start];
  const angles = [];
  for (const sign of signs) {
    const [a, b] = path.at(-1);
    const pull = ((sign === "1" ? 1 : -1) * rate) / (a * a + b * b);
    const next = [a - pull * b - rate * decay * a, b + pull * a - rate * decay * b];
    const cosine = (a * next[0] + b * next[1]) / Math.hypot(a, b) / Math.hypot(...next);
    angles.push(Math.acos(clamp(cosine, -1, 1)));
    path.push(next);
  }
  return { path, angles, lengths: path.map((w) => Math.hypot(...w)) };
};

// Where growth and decay balance, to first order in rate times decay: length and angle.
export const balance = (rate, decay) => [(rate / (2 * decay)) ** 0.25, Math.sqrt(2 * rate * decay)];

const SHORTEST = 0.5, FARTHEST = 6;  // of the start
const LEFT = 30, TOP = 26, GAP = 62;
const ANGLES = [0.001, 2];

const few = (value) => String(Number(value.toPrecision(3)));

export default {
  render({ model, el }) {
    // signs: of each draw a string of 0 and 1. The state's rate and decay are places in the lists of them.
    const [rates, decays, signs] = ["rates", "decays", "signs"].map((name) => model.get(name));
    const placed = (w) => {
      const length = Math.hypot(...w);
      const fits = w.map((one) => (one * clamp(length, SHORTEST, FARTHEST)) / length);
      return { w: length > 0 ? fits.map((one) => Math.round(100 * one) / 100) : [SHORTEST, 0] };
    };
    let plane;  // its axes, as last drawn

    const { handle, close } = figure({
      model,
      el,
      label: "The path of two weights, their length, and the angle of each step",
      height: 316,
      moves: { w: [-FARTHEST, FARTHEST], draw: [0, signs.length - 1] },
      sliders: [
        { name: "rate", label: "rate η", min: 0, max: rates.length - 1, step: 1, told: (place) => String(rates[Math.round(place)]) },
        { name: "decay", label: "decay λ", min: 0, max: decays.length - 1, step: 1, told: (place) => String(decays[Math.round(place)] || "none") },
        { name: "steps", label: "steps", min: 10, max: signs[0].length, step: 10, digits: 0 },
      ],
      buttons: [
        ["another draw", ({ draw }) => ({ draw: (draw + 1) % signs.length })],
        ["start again", (_, start) => start],
      ],
      draw: (state, ground, width) => {
        const [rate, decay, n] = [rates[Math.round(state.rate)], decays[Math.round(state.decay)], Math.round(state.steps)];
        const drawn = signs[Math.round(state.draw)].slice(0, n);
        const runs = [["bn-1", wander(state.w, rate, 0, drawn)]];
        if (decay) runs.push(["bn-2", wander(state.w, rate, decay, drawn)]);
        const [long, turn] = decay ? balance(rate, decay) : [0, 0];
        const narrow = width < 520;
        ground.ownerSVGElement.setAttribute("height", narrow ? 596 : 316);

        const size = narrow ? Math.min(width - 2 * LEFT, 252) : 250;
        const reach = Math.max(7, 1.08 * Math.max(long, ...runs.flatMap(([, { lengths }]) => lengths)));
        const far = reach < 12 ? 5 : 5 * Math.floor(reach / 8);
        const sides = { domain: [-reach, reach], ticks: [-far, 0, far] };
        const left = narrow ? (width - size) / 2 : LEFT;
        plane = axes(ground, [left, TOP, left + size, TOP + size], { x: { ...sides, name: "the two weights" }, y: sides });
        make(ground, "text", { x: left, y: TOP - 8, class: "bn-1" }, "without decay");
        if (decay) make(ground, "text", { x: left + size, y: TOP - 8, "text-anchor": "end", class: "bn-2" }, "with decay");
        if (decay) make(ground, "circle", { cx: plane.x(0), cy: plane.y(0), r: plane.x(long) - plane.x(0), class: "bn-line bn-0 bn-dashed" });
        for (const [kind, { path }] of runs) plane.line(path, `${kind} bn-thread`);
        for (const [kind, { path }] of runs) plane.dot(...path.at(-1), kind, 4);

        const from = narrow ? LEFT + 16 : left + size + GAP;
        const panel = (top, x, y, values, line) => {
          const one = axes(ground, [from, top, width - 18, top + 90], { x: { domain: [0, n], ticks: [0, n / 2, n], ...x }, y });
          if (line) one.line([[0, line], [n, line]], "bn-0 bn-dashed");
          for (const [i, [kind]] of runs.entries()) one.line(values[i], kind);
          return one;
        };
        const most = Math.max(long, ...runs.flatMap(([, { lengths }]) => lengths));
        const [step] = [1, 2, 5, 10].filter((one) => 2 * one >= most / 2).concat(20);
        panel(narrow ? 334 : TOP, {}, { domain: [0, 1.12 * most], ticks: [0, step, 2 * step].filter((tick) => tick <= 1.12 * most), name: "length of the weights" },
          runs.map(([, run]) => run.lengths.map((value, i) => [i, value])), long);
        const log = (value) => Math.log10(clamp(value, ...ANGLES));
        panel(narrow ? 466 : TOP + 150, { name: "steps" }, { domain: ANGLES.map(Math.log10), ticks: [-3, -2, -1, 0], told: (tick) => few(10 ** tick), name: "angle of a step (radians)" },
          runs.map(([, run]) => run.angles.map((value, i) => [i + 1, log(value)])), decay && log(turn));
        const [free, held] = runs.map(([, run]) => run);
        const ends = ({ lengths: all, angles }) => `${told(all[n], 2)} long, and the last step turned them by ${few(angles.at(-1))}`;
        return `Rate ${rate}, ${decay ? `decay ${decay}` : "no decay"}: after ${n} steps the weights are ${ends(held ?? free)}. `
          + (decay ? `In balance (dashed): ${told(long, 2)} and √(2ηλ) = ${few(turn)}. Without decay they are ${ends(free)}.` : "They only get longer, and turn ever less.");
      },
    });
    handle({
      label: "Start of the weights",
      bounds: [0, FARTHEST],
      kind: "bn-0",
      at: ({ w }) => [plane.x(w[0]), plane.y(w[1])],
      drag: ([right, down]) => placed([plane.x.invert(right), plane.y.invert(down)]),
      keys: ([right, up], { w }) => placed(Math.abs(right) + Math.abs(up) > 1 ? w.map((one) => one * (right > 0 ? 1.25 : 0.8)) : [w[0] + right / 4, w[1] + up / 4]),
      say: ({ w }) => [Number(Math.hypot(...w).toFixed(2)), `(${w.map((one) => told(one, 2)).join(", ")})`],
    });
    return close;
  },
};
