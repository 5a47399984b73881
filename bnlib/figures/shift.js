// Covariate shift: inputs of a source and of a target on one axis; below, the line that the source's points give, each
// counted once or by its weight. The target is moved and widened, and the weights follow.

import { axes, clamp, figure, make, scale, told } from "./kit.js";

const normal = (x, mean, std) => Math.exp(-(((x - mean) / std) ** 2) / 2) / (std * Math.sqrt(2 * Math.PI));
const sum = (values) => values.reduce((total, value) => total + value, 0);
const RULES = { sinc: (x) => (x ? Math.sin(Math.PI * x) / (Math.PI * x) : 1), line: (x) => 1 - x / 2 };

// The page's formulas: the ratio of the densities to a power, least squares with weights, the effective sample size.
export const weights = (x, [mean, std], { mean: to, width, power }) => x.map((one) => (normal(one, to, width) / normal(one, mean, std)) ** power);
export const fitted = (x, y, w) => {
  const total = sum(w);
  const middle = (values) => sum(values.map((value, i) => w[i] * value)) / total;
  const [a, b] = [middle(x), middle(y)];
  const slope = middle(x.map((value, i) => (value - a) * (y[i] - b))) / middle(x.map((value) => (value - a) ** 2));
  return [b - slope * a, slope];
};
export const effective = (w) => sum(w) ** 2 / sum(w.map((one) => one * one));
// The mean squared distance of a line from the rule over the target: 400 steps across four standard deviations.
export const error = ([a, b], rule, { mean, width }) => {
  const places = Array.from({ length: 401 }, (_, i) => (i - 200) / 50);
  const mass = places.map((z) => Math.exp(-z * z / 2));
  return sum(places.map((z, i) => mass[i] * (a + b * (mean + width * z) - RULES[rule](mean + width * z)) ** 2)) / sum(mass);
};

const X = [-0.5, 3.5], Y = [-1.2, 1.7], HIGH = 2.1;  // of the densities
const LEFT = 36, TOP = 26, BELLS = 118, ABOVE = 160, BELOW = 372, BAR = 446;
const small = (value) => (value < 5e-5 ? "under 0.0001" : told(value, value < 0.0095 ? 4 : value < 0.095 ? 3 : 2));

export default {
  render({ model, el }) {
    const { x, noise, source } = Object.fromEntries(["x", "noise", "source"].map((name) => [name, model.get(name)]));
    const right = (width) => width - 84;  // the lines' names stand behind it
    const across = (width) => scale(X, [LEFT, right(width)]);
    const peak = scale([0, HIGH], [BELLS, TOP]);

    const { svg, handle, close } = figure({
      model,
      el,
      label: "Inputs of source and target, and the lines fitted to the source's points",
      height: 470,
      moves: { mean: [0, 3], width: [0.2, 0.6] },
      sliders: [{ name: "power", label: "power λ of the weights", min: 0, max: 1, step: 0.05, digits: 2 }],
      choices: [{ name: "rule", label: "The rule", options: { sinc: "a curve", line: "a straight line" } }],
      buttons: [["start again", (_, start) => start]],
      draw: (state, ground, width) => {
        const { mean, width: std, rule } = state;
        const end = right(width);
        const y = x.map((one, i) => RULES[rule](one) + noise[i]);
        const w = weights(x, source, state);
        const lines = { plain: fitted(x, y, x.map(() => 1)), weighted: fitted(x, y, w) };
        const [size, most] = [effective(w), Math.max(...w)];
        const t = Array.from({ length: 201 }, (_, i) => X[0] + (i * (X[1] - X[0])) / 200);

        const bells = axes(ground, [LEFT, TOP, end, BELLS], { x: { domain: X, ticks: [] }, y: { domain: [0, HIGH] } });
        for (const [kind, ...of] of [["bn-1", ...source], ["bn-2", mean, std]]) {
          bells.area(t.map((one) => [one, normal(one, ...of)]), kind);
          bells.line(t.map((one) => [one, normal(one, ...of)]), kind);
        }
        bells.text(mean < 1.4 ? 2.4 : X[0], mean < 1.4 ? 0.55 : 1, "source", "bn-1 bn-strong");
        bells.text(mean, 0, "target", "bn-2 bn-strong", { x: clamp(bells.x(mean), LEFT + 24, end - 24), y: bells.y(normal(0, 0, std)) - 13, "text-anchor": "middle" });

        const { text, x: sx, y: sy, line, dot } = axes(ground, [LEFT, ABOVE, end, BELOW], { x: { domain: X, ticks: [0, 1, 2, 3], name: "x" }, y: { domain: Y, ticks: [-1, 0, 1], name: "y, and what is fitted to it" } });
        const [from, to] = [mean - 2 * std, mean + 2 * std].map((one) => sx(clamp(one, ...X)));
        make(ground, "rect", { x: from, y: ABOVE, width: to - from, height: BELOW - ABOVE, class: "bn-area bn-2", style: "fill-opacity: 0.1" });
        x.forEach((one, i) => dot(one, clamp(y[i], ...Y), "bn-0", 1.2 + 7 * Math.sqrt(w[i] / most) * Math.min(1, Math.sqrt(12 / size))).setAttribute("fill-opacity", 0.55));
        line(t.map((one) => [one, RULES[rule](one)]), "bn-3");
        const names = [["rule", "bn-3", RULES[rule](X[1])]];
        for (const [name, kind] of [["plain", "bn-1"], ["weighted", "bn-2"]]) {
          const [a, b] = lines[name];
          const ends = X.map((edge) => (b ? clamp(edge, ...[(Y[0] - a) / b, (Y[1] - a) / b].sort((p, q) => p - q)) : edge));
          line(ends.map((one) => [one, a + b * one]), kind, { "stroke-width": 3 });
          names.push([name, kind, clamp(a + b * X[1], ...Y)]);
        }
        names.sort((p, q) => q[2] - p[2]).reduce((least, [name, kind, value], i) => {
          const height = clamp(sy(value) + 4, least, BELOW - 16 * (names.length - 1 - i));
          text(X[1], 0, name, `${kind} bn-strong`, { x: end + 6, y: height });
          return height + 16;
        }, ABOVE);

        const part = sx(X[0]) + (size / x.length) * (end - LEFT);
        make(ground, "text", { x: LEFT, y: BAR - 10 }, `effective sample size: ${told(size, size < 9.95 ? 1 : 0)} of ${x.length}`);
        axes(ground, [LEFT, BAR, end, BAR + 10], { x: { domain: [0, 1] }, y: { domain: [0, 1] } }).area([[0, 1], [1, 1]], "bn-0");
        make(ground, "rect", { x: LEFT, y: BAR, width: part - LEFT, height: 10, class: "bn-dot bn-2" });

        const errors = Object.values(lines).map((one) => error(one, rule, state));
        return `Over the target the plain line has the mean squared error ${small(errors[0])}, the weighted one ${small(errors[1])}. `
          + `The weights leave as much as ${told(size, size < 9.95 ? 1 : 0)} of ${x.length} points.`;
      },
    });
    const round = (value) => Math.round(100 * value) / 100;
    handle({
      label: "Target's mean",
      bounds: [0, 3],
      kind: "bn-2",
      at: ({ mean, width }) => [across(svg.clientWidth)(mean), peak(normal(0, 0, width))],
      drag: ([place]) => ({ mean: round(across(svg.clientWidth).invert(place)) }),
      keys: ([sideways, up], { mean }) => ({ mean: round(mean + (Math.abs(sideways + up) > 1 ? 0.5 * Math.sign(sideways) : (sideways + up) / 10)) }),
      say: ({ mean }) => [mean, told(mean, 2)],
    });
    handle({
      label: "Target's standard deviation",
      bounds: [0.2, 0.6],
      kind: "bn-2",
      at: ({ mean, width }) => [across(svg.clientWidth)(mean + width), peak(normal(width, 0, width))],
      drag: ([place], { mean }) => ({ width: round(across(svg.clientWidth).invert(place) - mean) }),
      keys: ([sideways, up], { width }) => ({ width: round(width + (Math.abs(sideways + up) > 1 ? 0.1 * Math.sign(sideways) : (sideways + up) / 50)) }),
      say: ({ width }) => [width, told(width, 2)],
    });
    return close;
  },
};
