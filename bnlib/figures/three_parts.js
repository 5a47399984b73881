// The gradient of one unit with three examples, in the space with an axis for each of them: three directions at right angles,
// the ones (a shift of the unit), xhat (a stretch) and a third. Of dy, which has a part along each, one stays in dx.

import { axes, clamp, figure, make, told } from "./kit.js";

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

// The page's formula, one unit.
export const backward = (dy, x, gamma, eps) => {
  const centred = x.map((value) => value - mean(x));
  const rstd = (dot(centred, centred) / x.length + eps) ** -0.5;
  const xhat = centred.map((value) => value * rstd);
  const dxhat = dy.map((value) => value * gamma);
  const along = dot(dxhat, xhat) / x.length;
  return { dx: dxhat.map((value, i) => rstd * (value - mean(dxhat) - xhat[i] * along)), dgamma: dot(dy, xhat), dbeta: dot(dy, Array(x.length).fill(1)), rstd };
};

// Three columns at right angles, each of mean square 1: the ones, the standard scores (eps = 0), and what is left.
export const directions = (x) => {
  const centred = x.map((value) => value - mean(x));
  const scores = centred.map((value) => value / Math.sqrt(dot(centred, centred) / 3));
  return [[1, 1, 1], scores, [0, 1, 2].map((i) => (scores[(i + 2) % 3] - scores[(i + 1) % 3]) / Math.sqrt(3))];
};

// dy from its parts, and dx with the parts that stay, in units of rstd.
export const step = (parts, x, eps) => {
  const base = directions(x);
  const dy = x.map((_, i) => parts.reduce((sum, part, k) => sum + part * base[k][i], 0));
  const back = backward(dy, x, 1, eps);
  return { ...back, dy, stays: base.map((column) => dot(back.dx, column) / 3 / back.rstd) };
};

const WAYS = [[0, -1], [1, 0], [0.7, -0.45]];  // of the three directions on the page: the third goes back
const UNIT = 82, MIDDLE = 158, ROWS = 78;

export default {
  render({ model, el }) {
    const x = model.get("x");
    const centre = (width) => [width > 460 ? 142 : width / 2 - 16, MIDDLE];
    const at = ([left, down], parts) => [0, 1].map((i) => [left, down][i] + UNIT * parts.reduce((sum, part, k) => sum + part * WAYS[k][i], 0));
    const only = (k, value) => [0, 1, 2].map((i) => (i === k ? value : 0));

    const { svg, handle, close } = figure({
      model,
      el,
      label: "A gradient in three parts, of which one stays",
      height: 304,
      moves: { parts: [-1, 1] },
      sliders: [{ name: "log_eps", label: "log₁₀ ε", min: -5, max: 1, step: 0.5 }],
      buttons: [
        ["only a shift", () => ({ parts: [0.8, 0, 0] })],
        ["only a stretch", () => ({ parts: [0, 0.8, 0] })],
        ["start again", (_, start) => start],
      ],
      draw: ({ parts, log_eps }, ground, width) => {
        const wide = width > 460, here = centre(width);
        const { dy, dx, dbeta, dgamma, stays } = step(parts, x, 10 ** log_eps);
        ground.ownerSVGElement.setAttribute("height", wide ? 304 : 326 + 3 * ROWS);
        const path = (points, kind, shut = "") => make(ground, "path", { d: `M${points.map((point) => at(here, point).map((one) => one.toFixed(1)).join(" ")).join("L")}${shut}`, class: kind });
        const arrow = (to, kind) => {
          const [[a, b], [c, d]] = [here, at(here, to)], long = Math.hypot(c - a, d - b);
          if (long < 3) return;
          const [u, v] = [(c - a) / long, (d - b) / long], head = Math.min(11, long);
          make(ground, "path", { d: `M${a} ${b}L${c - u * head * 0.7} ${d - v * head * 0.7}`, class: `bn-line bn-thick ${kind}` });
          make(ground, "path", { d: `M${c} ${d}L${c - u * head - v * 5} ${d - v * head + u * 5}L${c - u * head + v * 5} ${d - v * head - u * 5}Z`, class: `bn-dot ${kind}` });
        };
        const [p, q, s] = parts;
        path([[1.1, 1.1, 0], [1.1, -1.1, 0], [-1.1, -1.1, 0], [-1.1, 1.1, 0]], "bn-area bn-2", "Z");
        for (const k of [0, 1, 2]) path([only(k, -1.25), only(k, 1.25)], "bn-line bn-thin bn-0");
        path([[p, 0, 0], [p, q, 0], [0, q, 0]], "bn-line bn-thin bn-dashed bn-2");
        path([[p, q, 0], [p, q, s]], "bn-line bn-thin bn-dashed bn-3");
        path([[0, 0, s], [p, q, s]], "bn-line bn-thin bn-dashed bn-0");
        arrow([p, 0, 0], "bn-2");
        arrow([0, q, 0], "bn-2");
        arrow(parts, "bn-1");
        arrow(stays, "bn-3");
        const names = [["1, a shift", "bn-2", "middle", 0, -6], ["x̂, a stretch", "bn-2", "end", 14, 26], ["the third", "bn-3", "start", 6, 4]];
        names.forEach(([name, kind, anchor, right, down], k) => {
          const [a, b] = at(here, only(k, 1.25));
          make(ground, "text", { x: a + right, y: b + down, "text-anchor": anchor, class: kind }, name);
        });
        const [a, b] = at(here, parts);
        if (Math.hypot(...stays) > 0.05) make(ground, "text", { x: here[0], y: MIDDLE + 128, "text-anchor": "middle", class: "bn-3" }, "green arrow: dx, but for its scale");
        if (Math.hypot(...parts) > 0.2) make(ground, "text", { x: a + (a < here[0] ? -8 : 8), y: b - 6, "text-anchor": a < here[0] ? "end" : "start", class: "bn-1 bn-strong" }, "dy");

        const [left, top] = wide ? [366, 66] : [16, 332];
        const bars = [left + 48, width - 82];
        const { x: across } = axes(ground, [bars[0], 0, bars[1], 0], { x: { domain: [-3, 3] }, y: { domain: [0, 1] } });
        make(ground, "line", { x1: across(0), x2: across(0), y1: top - 12, y2: top + 3 * ROWS - 32 });
        make(ground, "text", { x: left, y: top - 22, class: "bn-name" }, "example");
        x.forEach((value, i) => {
          const y = top + i * ROWS;
          make(ground, "text", { x: left, y: y + 21 }, `x${"₁₂₃"[i]} = ${value}`);
          [[dy[i], "dy", "bn-1", 0], [dx[i], "dx", "bn-3", 22]].forEach(([one, name, kind, down]) => {
            const ends = [across(0), across(clamp(one, -3, 3))];
            make(ground, "rect", { x: Math.min(...ends), y: y + down, width: Math.abs(ends[1] - ends[0]), height: 16, class: `bn-dot ${kind}` });
            make(ground, "text", { x: width - 74, y: y + down + 13, class: kind }, `${name} ${told(one, 2)}`);
          });
        });
        return `Of dy, ${told(p, 2)} lies along 1, ${told(q, 2)} along x̂ and ${told(s, 2)} along the third. In dx, but for its scale, ${stays.map((part) => told(part, 2)).join(", ").replace(/, ([^,]*)$/, " and $1")} are left. `
          + `The first two show in dβ = ${told(dbeta, 2)} and dγ = ${told(dgamma, 2)}. The sum of dx is ${told(dx.reduce((sum, one) => sum + one, 0), 2)}.`;
      },
    });
    const moved = (k, parts, value) => ({ parts: parts.map((part, i) => (i === k ? Math.round(20 * value) / 20 : part)) });
    ["Part along 1", "Part along x̂", "Part along the third direction"].forEach((label, k) => handle({
      label,
      bounds: [-1, 1],
      kind: k < 2 ? "bn-2" : "bn-3",
      at: ({ parts }) => at(centre(svg.clientWidth), only(k, parts[k])),
      drag: (place, { parts }) => moved(k, parts, dot(place.map((one, i) => one - centre(svg.clientWidth)[i]), WAYS[k]) / dot(WAYS[k], WAYS[k]) / UNIT),
      keys: ([right, up], { parts }) => moved(k, parts, parts[k] + (Math.abs(right + up) > 1 ? Math.sign(right) / 2 : (right + up) / 20)),
      say: ({ parts, log_eps }) => [parts[k], `${told(parts[k], 2)}, of which ${told(step(parts, x, 10 ** log_eps).stays[k], 2)} stays`],
    }));
    return close;
  },
};
