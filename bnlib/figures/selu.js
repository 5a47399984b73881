// A signal through fifty random layers: mean and standard deviation in the plane, a dot a layer, and the cosine of two
// examples. For SELU, for the ReLU, and for a ReLU shifted and scaled so that a standard Gaussian comes out with mean 0
// and variance 1.

import { axes, figure, make, told } from "./kit.js";

const [ALPHA, LAMBDA] = [1.6732632423543772, 1.0507009873554805];
const DENSITY = 1 / Math.sqrt(2 * Math.PI);  // of a standard Gaussian at 0
const SHIFT = DENSITY, SPREAD = Math.sqrt((1 - 1 / Math.PI) / 2);  // behind a ReLU

// exp(x * x) times the integral of the Gaussian's tail, erfc(x), for x >= 0: a series, or for large x a continued fraction.
export const erfcx = (x) => {
  if (x < 2) {
    let [term, sum] = [x, x];
    for (let n = 1; term > 1e-17 * sum; n += 1) sum += term *= (2 * x * x) / (2 * n + 1);
    return Math.exp(x * x) - (2 / Math.sqrt(Math.PI)) * sum;
  }
  let below = x;
  for (let n = 60; n > 0; n -= 1) below = x + n / 2 / below;
  return 1 / below / Math.sqrt(Math.PI);
};

const GRID = Array.from({ length: 121 }, (_, i) => (i - 60) / 10);  // over which two Gaussians are summed up
const WEIGHTS = GRID.map((u) => Math.exp((-u * u) / 2));
const ALL = WEIGHTS.reduce((sum, weight) => sum + weight);
const selu = (z) => LAMBDA * (z > 0 ? z : ALPHA * Math.expm1(z));

// Of each activation: the mean and the mean square that it makes of a Gaussian with mean 0 and variance v, and the cosine
// for two such Gaussians of correlation c: their mean product over the mean square. SELU's is a sum over a grid.
export const KINDS = {
  selu: {
    moments: (v) => {
      const [one, two] = [1, 2].map((k) => erfcx(k * Math.sqrt(v / 2)) / 2);
      return [LAMBDA * (Math.sqrt(v) * DENSITY + ALPHA * (one - 0.5)), LAMBDA ** 2 * (v / 2 + ALPHA ** 2 * (two - 2 * one + 0.5))];
    },
    cosine: (v, c) => {
      const [s, across] = [Math.sqrt(v), Math.sqrt(Math.max(0, 1 - c * c))];
      const mean = (of) => WEIGHTS.reduce((sum, weight, i) => sum + weight * of(GRID[i]), 0);
      const product = mean((one) => selu(s * one) * mean((other) => selu(s * (c * one + across * other))));
      return product / mean((one) => selu(s * one) ** 2) / ALL;
    },
  },
  relu: {
    moments: (v) => [Math.sqrt(v) * DENSITY, v / 2],
    cosine: (v, c) => (Math.sqrt(Math.max(0, 1 - c * c)) + c * (Math.PI - Math.acos(Math.min(1, c)))) / Math.PI,
  },
};
KINDS.shifted = {
  moments: (v) => {
    const [mean, square] = KINDS.relu.moments(v);
    return [(mean - SHIFT) / SPREAD, (square - 2 * SHIFT * mean + SHIFT ** 2) / SPREAD ** 2];
  },
  cosine: (v, c) => {
    const [mean, square] = KINDS.relu.moments(v);
    const less = SHIFT ** 2 - 2 * SHIFT * mean;
    return (square * KINDS.relu.cosine(v, c) + less) / (square + less);
  },
};

// Mean, standard deviation and cosine before the first layer and behind each: weights with mean 0 and variance gain squared over n.
export const layers = (kind, gain, [mean, sd], cosine, many) => {
  const path = [{ mean, sd, cosine }];
  while (path.length <= many) {
    const last = path.at(-1);
    const v = gain ** 2 * (last.mean ** 2 + last.sd ** 2);
    if (!(v < 1e12 && v > 1e-12)) break;  // exploded, or died
    const [first, square] = KINDS[kind].moments(v);
    path.push({ mean: first, sd: Math.sqrt(Math.max(0, square - first ** 2)), cosine: Math.min(1, KINDS[kind].cosine(v, last.cosine)) });
  }
  return path;
};

const NAMES = { selu: "SELU", relu: "ReLU", shifted: "Shifted ReLU" };
const MANY = 50;
const RANGE = { mean: [-2, 2.5], sd: [0.05, 3.5] };
const said = (value) => (value < 0.005 ? "below 0.01" : value > 999 ? "above 999" : told(value, value < 10 ? 2 : 0));

export default {
  render({ model, el }) {
    let plane;
    const { handle, close } = figure({
      model,
      el,
      label: "Mean and standard deviation of a signal, layer by layer, and the cosine of two examples",
      height: 300,
      moves: RANGE,
      sliders: [
        { name: "gain", label: "gain", min: 0.5, max: 1.6, step: 0.01, digits: 2 },
        { name: "cosine", label: "cosine", min: 0, max: 1, step: 0.02, digits: 2 },
      ],
      choices: [{ name: "kind", label: "Activation", options: NAMES }],
      buttons: [
        ["He’s gain", () => ({ gain: Math.SQRT2 })],
        ["PyTorch’s gain", () => ({ gain: 1 / Math.sqrt(3) })],
        ["start again", (_, start) => start],
      ],
      draw: ({ mean, sd, gain, cosine, kind }, ground, width) => {
        const narrow = width < 480;
        const [right, bottom] = narrow ? [width - 10, 236] : [width * 0.57, 256];
        plane = axes(ground, [40, 26, right, bottom], {
          x: { domain: [-2.2, 2.7], ticks: [-2, -1, 0, 1, 2], name: "mean" },
          y: { domain: [0, 3.7], ticks: [0, 1, 2, 3], name: "standard deviation" },
        });
        const path = layers(kind, gain, [mean, sd], cosine, MANY);
        const at = ({ mean: a, sd: b }) => [plane.x(a), plane.y(b)];

        const view = make(ground, "svg", { x: 40, y: 26, width: right - 40, height: bottom - 26 });
        const inner = axes(view, [0, 0, right - 40, bottom - 26], { x: { domain: [-2.2, 2.7] }, y: { domain: [0, 3.7] } });
        const curve = Array.from({ length: 80 }, (_, i) => KINDS[kind].moments(10 ** (i / 20 - 2.4)));
        inner.line(curve.map(([first, square]) => [first, Math.sqrt(Math.max(0, square - first ** 2))]), "bn-0 bn-thin");
        inner.dot(0, 1, "bn-3 bn-ring", 8);
        inner.line(path.map((one) => [one.mean, one.sd]), "bn-1");
        for (const [i, one] of path.entries()) {
          if (!i) continue;
          inner.dot(one.mean, one.sd, "bn-1", i === 1 ? 4.5 : 3);
          const [[a, b], [c, d]] = [at(path[i - 1]), at(one)];
          if (Math.hypot(c - a, d - b) < 20) continue;
          const turn = (180 / Math.PI) * Math.atan2(d - b, c - a);
          make(view, "path", { d: "M5 0L-5 -4.5V4.5Z", class: "bn-dot bn-1", transform: `translate(${(a + c) / 2 - 40} ${(b + d) / 2 - 26}) rotate(${turn})` });
        }
        const around = { style: "paint-order: stroke; stroke: var(--bn-paper); stroke-width: 4px" };
        plane.text(0, 1, "(0, 1)", "bn-3 bn-strong", { dx: -12, dy: 16, "text-anchor": "end", ...around });
        const first = path.length > 1 && at(path[1]);
        if (first && path[1].sd < 3.4 && path[1].mean < 1.8 && Math.hypot(first[0] - plane.x(mean), first[1] - plane.y(sd)) > 60) plane.text(path[1].mean, path[1].sd, "layer 1", "bn-1", { dx: 10, dy: -6, ...around });
        plane.text(mean, sd, "start", "bn-2", { dy: sd > 3.3 ? 25 : -13, "text-anchor": "middle", ...around });

        const box = narrow ? [40, bottom + 62, width - 14, bottom + 172] : [right + 56, 26, width - 14, bottom];
        const pair = axes(ground, box, {
          x: { domain: [0, MANY], ticks: [0, 25, 50], name: "layer" },
          y: { domain: [0, 1], ticks: [0, 0.5, 1], name: "cosine of two examples" },
        });
        pair.line(path.map((one, layer) => [layer, one.cosine]), "bn-4");
        ground.parentNode.setAttribute("height", (narrow ? box[3] : bottom) + 44);

        const end = path.at(-1);
        const near = path.findLastIndex((one) => Math.max(Math.abs(one.mean), Math.abs(one.sd - 1)) >= 0.1) + 1;
        const when = near < path.length ? `From layer ${near} on` : `After ${path.length - 1} layers`;
        return `${NAMES[kind]}, gain ${told(gain, 2)}. ${when} `
          + (near < path.length ? "mean and standard deviation are within 0.1 of 0 and 1." : `the mean is ${end.mean > 999 ? "above 999" : told(end.mean, 2)} and the standard deviation ${said(end.sd)}, not 0 and 1.`)
          + ` The cosine of two examples goes from ${told(cosine, 2)} to ${told(end.cosine, 2)}.`;
      },
    });
    handle({
      label: "Start: mean and standard deviation",
      kind: "bn-2",
      bounds: [-2, 2.5],
      at: ({ mean, sd }) => [plane.x(mean), plane.y(sd)],
      drag: ([a, b]) => ({ mean: Number(plane.x.invert(a).toFixed(2)), sd: Number(plane.y.invert(b).toFixed(2)) }),
      keys: ([right, up], { mean, sd }) => ({ mean: mean + (Math.abs(right) > 1 ? 0 : right / 10), sd: sd + up / 10 }),
      say: ({ mean, sd }) => [Number(mean.toFixed(2)), `mean ${told(mean, 2)}, standard deviation ${told(sd, 2)}`],
    });
    return close;
  },
};
