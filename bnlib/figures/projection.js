// Weight norm of one unit with two weights: v and a gradient that stays as it is, some steps of gradient descent from there
// in the plane of v, and what becomes of the lengths. Without the projection v keeps the part of the gradient along itself.

import { axes, clamp, counted, figure, make, told } from "./kit.js";

const length = ([a, b]) => Math.hypot(a, b);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1];

// The page's formulas: what is g's, and what is v's, of the gradient dw with respect to w.
export const gradients = (v, g, dw, projected) => {
  const unit = v.map((one) => one / length(v));
  const dg = dot(dw, unit);
  return { dg, dv: dw.map((one, i) => (g / length(v)) * (one - (projected ? dg * unit[i] : 0))) };
};

// Pairs of v and g, before the first step and after each.
export const walk = (v, g, dw, [rateV, rateG], steps, projected) => {
  const path = [{ v, g }];
  while (path.length <= steps) {
    const last = path.at(-1);
    if (length(last.v) < 1e-9) break;  // no direction is left
    const { dv, dg } = gradients(last.v, last.g, dw, projected);
    path.push({ v: last.v.map((one, i) => one - rateV * dv[i]), g: last.g - rateG * dg });
  }
  return path;
};

const G = 2;  // at the start
const MOST = 12;  // steps
const REACH = { x: [-6.6, 5.8], y: [-1.5, 6.5] };
// Where the start may be: in the plane, and not at 0, where no direction is.
const inside = ([a, b]) => {
  const [x, y] = [clamp(a, -5.5, 5.5), clamp(b, -1, 5.5)];
  const size = Math.hypot(x, y);
  return size >= 1 ? [x, y] : size ? [x / size, y / size] : [0, 1];
};
const rounded = (point) => point.map((one) => Math.round(10 * one) / 10);

const arrow = (plane, ground, from, to, kind, wide = 2) => {
  const [[a, b], [c, d]] = [from, to].map(([x, y]) => [plane.x(x), plane.y(y)]);
  const [size, turn] = [Math.hypot(c - a, d - b), Math.atan2(d - b, c - a)];
  if (size < 4) return;
  make(ground, "path", { d: `M${a} ${b}L${c - 4 * Math.cos(turn)} ${d - 4 * Math.sin(turn)}`, class: `bn-line ${kind}`, style: `stroke-width: ${wide}px` });
  make(ground, "path", { d: "M0 0L-9 -4V4Z", class: `bn-dot ${kind}`, transform: `translate(${c} ${d}) rotate(${(180 * turn) / Math.PI})` });
};

export default {
  render({ model, el }) {
    let plane;
    const begin = (state) => inside(state.v);
    const run = (state) => walk(begin(state), G, state.dw, [state.rate_v, state.rate_g], state.steps, !state.forgotten);
    const tip = (state) => begin(state).map((one, i) => one - ((state.rate_v * G) / length(begin(state))) * state.dw[i]);

    const { handle, close } = figure({
      model,
      el,
      label: "The plane of v, and the lengths of v and w over the steps",
      height: 300,
      moves: { v: [-6, 6], dw: [-8, 8] },
      sliders: [
        { name: "steps", label: "steps", min: 1, max: MOST, step: 1, digits: 0 },
        { name: "rate_v", label: "rate of v", min: 0.2, max: 2, step: 0.1 },
        { name: "rate_g", label: "rate of g", min: 0, max: 0.5, step: 0.05, digits: 2 },
      ],
      choices: [{ name: "forgotten", label: "forget the projection" }],
      buttons: [["start again", (_, start) => start]],
      draw: (state, ground, width) => {
        const narrow = width < 480;
        const right = narrow ? width - 8 : width * 0.66;
        const scale = (right - 8) / (REACH.x[1] - REACH.x[0]);
        const bottom = 8 + scale * (REACH.y[1] - REACH.y[0]);
        const view = make(ground, "svg", { x: 8, y: 8, width: right - 8, height: bottom - 8 });
        const local = axes(view, [0, 0, right - 8, bottom - 8], { x: { domain: REACH.x }, y: { domain: REACH.y } });
        plane = { x: (value) => 8 + local.x(value), y: (value) => 8 + local.y(value), invert: ([a, b]) => [local.x.invert(a - 8), local.y.invert(b - 8)] };
        const [start, path] = [begin(state), run(state)];
        const end = path.at(-1);
        const [before, after] = [length(start), length(end.v)];
        make(view, "line", { x1: 0, x2: right, y1: local.y(0), y2: local.y(0), class: "bn-grid" });
        make(view, "line", { x1: local.x(0), x2: local.x(0), y1: 0, y2: bottom, class: "bn-grid" });
        make(view, "circle", { cx: local.x(0), cy: local.y(0), r: scale * before, class: "bn-line bn-0 bn-thin bn-dashed" });
        if (state.steps > 1) make(view, "circle", { cx: local.x(0), cy: local.y(0), r: scale * after, class: "bn-line bn-3 bn-thin bn-thread" });
        const kept = path[1].v;
        local.line([tip(state), kept], "bn-4 bn-thin bn-dashed");
        arrow(local, view, [0, 0], start, "bn-1");
        arrow(local, view, start, tip(state), "bn-2", 5);
        arrow(local, view, start, kept, "bn-3");
        local.line(path.slice(1).map(({ v }) => v), "bn-3");
        for (const { v } of path.slice(2)) local.dot(...v, "bn-3", 3.5);
        const around = { style: "paint-order: stroke; stroke: var(--bn-paper); stroke-width: 4px" };
        local.text(0.45 * start[0], 0.45 * start[1], "v", "bn-1 bn-strong", { dx: 9, dy: 8, ...around });
        const there = tip(state).map((one, i) => clamp(one, ...[REACH.x, REACH.y][i]));
        const [at, away] = [local.x(there[0]), there[0] <= start[0] ? -1 : 1];
        const beside = !state.forgotten && (away < 0 ? at : right - 8 - at) > 215;
        const placed = beside ? { dx: 14 * away, dy: 5, "text-anchor": away < 0 ? "end" : "start" } : { dx: clamp(at, 104, right - 112) - at, dy: there[1] < 0 ? -14 : 26, "text-anchor": "middle" };
        local.text(...there, "step with the whole gradient", "bn-2", { ...placed, ...around });

        // The lengths, beside the plane or below it.
        const box = narrow ? [34, bottom + 34, width - 44, bottom + 124] : [right + 44, 34, width - 48, bottom - 34];
        const top = Math.max(8, 2 * Math.ceil(Math.max(...path.map(({ v, g }) => Math.max(length(v), Math.abs(g)))) / 2));
        const sizes = axes(ground, box, {
          x: { domain: [0, MOST], ticks: [0, 4, 8, 12], name: "steps" },
          y: { domain: [0, top], ticks: [0, top / 2, top], name: "length" },
        });
        const looks = [["v", "bn-1", ({ v }) => length(v)], ["w", "bn-4", ({ g }) => Math.abs(g)]];
        const [high, low] = looks.map(([, , size]) => sizes.y(size(end)));
        const apart = Math.abs(high - low) < 15 ? 8 * Math.sign(low - high || 1) : 0;
        for (const [i, [name, kind, size]] of looks.entries()) {
          sizes.line(path.map((one, step) => [step, size(one)]), kind);
          path.forEach((one, step) => sizes.dot(step, size(one), kind, 2.5));
          const shift = (i ? apart : -apart) + 4;
          sizes.text(path.length - 1, size(end), `of ${name}`, kind, { dx: 7, dy: Math.min(shift, box[3] - 5 - [high, low][i]) });
        }
        ground.parentNode.setAttribute("height", narrow ? bottom + 172 : bottom + 8);

        const { dg } = gradients(start, G, state.dw, true);
        const turned = (a, b) => Math.abs(Math.atan2(a[0] * b[1] - a[1] * b[0], dot(a, b)) * (180 / Math.PI));
        return `Of the gradient, ${told(length(state.dw))} long, ${told(dg)} lies along v: ${state.forgotten ? "v keeps it, though it is the business of g" : "that is left to g"}. `
          + `The first step turns v by ${told(turned(start, kept), 0)}°, and its length goes from ${told(before, 2)} to ${told(length(kept), 2)}`
          + (path.length > 2 ? `; after ${counted(path.length - 1, "step")} it is ${told(after, 2)}, and that of w ${told(Math.abs(end.g), 2)}.` : ".")
          + (state.forgotten ? " Its length is no longer kept from changing with the gradient along v." : "");
      },
    });
    const said = ([a, b]) => `${told(a)}, ${told(b)}`;
    const moved = (point, [right, up]) => (Math.abs(right) > 1 ? point.map((one) => one * (1 + 0.1 * Math.sign(right))) : [point[0] + right / 5, point[1] + up / 5]);
    handle({
      label: "v",
      bounds: [0, 9],
      at: (state) => [plane.x(begin(state)[0]), plane.y(begin(state)[1])],
      drag: (place) => ({ v: rounded(inside(plane.invert(place))) }),
      keys: (step, { v }) => ({ v: rounded(inside(moved(v, step))) }),
      say: (state) => [Number(length(begin(state)).toFixed(2)), `${said(begin(state))}, length ${told(length(begin(state)), 2)}`],
    });
    handle({
      label: "Gradient",
      kind: "bn-2",
      bounds: [0, 12],
      at: (state) => [plane.x(clamp(tip(state)[0], ...REACH.x)), plane.y(clamp(tip(state)[1], ...REACH.y))],
      drag: (place, state) => ({ dw: rounded(plane.invert(place).map((one, i) => ((begin(state)[i] - one) * length(begin(state))) / (state.rate_v * G))) }),
      keys: ([right, up], { dw }) => ({ dw: rounded(moved(dw, [Math.abs(right) > 1 ? right : -right, -up])) }),
      say: ({ dw }) => [Number(length(dw).toFixed(2)), `${said(dw)}, length ${told(length(dw), 2)}`],
    });
    return close;
  },
};
