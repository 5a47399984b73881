// Twenty layers: on the left what enters each layer's nonlinearity, on the right how the digits' differences change on
// their way up and the gradient on its way down. All was computed in the notebook, for each nonlinearity and gain.

import { axes, figure, make, told } from "./kit.js";

const FLAT = { sigmoid: [[-8, -4], [4, 8]], tanh: [[-8, -2], [2, 8]], ReLU: [[-8, 0]] };  // where the slope is small
const TOP = 44, STEP = 27, LEFT = 34;
const digits = (text, size) => Array.from({ length: text.length / size }, (_, i) => parseInt(text.slice(size * i, size * (i + 1)), 36));

// Of one network: by shown layer the heights of its histogram (0 to 35), by layer the decades of differences and gradient.
export const read = (text, layers, bins) => {
  const [heights, up, down, flat] = text.split(" ");
  const decades = (part) => digits(part, 2).map((one) => one / 20 - 30);
  return { rows: layers.map((_, i) => digits(heights.slice(bins * i, bins * (i + 1)), 1)), up: decades(up), down: decades(down), flat: parseInt(flat, 36) / 100 };
};
// A power of ten as words: as a number where that is short.
export const power = (decades) => (Math.abs(decades) < 2.5 ? String(Number((10 ** decades).toPrecision(decades > -0.3 && decades < 1 ? 2 : 1))) : `10${[...told(decades, 0)].map((one) => (one === "−" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[one])).join("")}`);

export default {
  render({ model, el }) {
    const { layers, gains, nets, bins } = Object.fromEntries(["layers", "gains", "nets", "bins"].map((name) => [name, model.get(name)]));
    const depth = Math.max(...layers);
    const bottom = TOP + STEP * layers.length;

    const { close } = figure({
      model,
      el,
      label: "What enters each layer, and how differences and gradient change with depth",
      height: bottom + 44,
      sliders: [{ name: "gain", label: "gain", min: 0, max: gains.length - 1, step: 1, told: (value) => told(gains[Math.round(value)], gains[Math.round(value)] < 8 ? 2 : 1) }],
      choices: [
        { name: "unit", label: "Nonlinearity", options: { sigmoid: "sigmoid", tanh: "tanh", ReLU: "ReLU" } },
        { name: "standardized", label: "standardize in every layer" },
      ],
      draw: ({ gain, unit, standardized }, ground, width) => {
        const at = Math.round(gain);
        const { rows, up, down, flat } = read(nets[unit][standardized ? 1 : 0][at], layers, bins);
        const narrow = width < 480;
        const middle = narrow ? width / 2 - 6 : width * 0.52;

        // Left: a row for each layer, the last on top.
        const box = axes(ground, [LEFT, TOP, middle, bottom], { x: { domain: [-8, 8], ticks: [-8, -4, 0, 4, 8], name: narrow ? "z" : "z, given to the nonlinearity" }, y: { domain: [0, 1] } });
        for (const [low, high] of FLAT[unit]) make(ground, "rect", { x: box.x(low), y: TOP - 8, width: box.x(high) - box.x(low), height: bottom - TOP + 8, class: "bn-area bn-0", style: "fill-opacity: 0.16" });
        make(ground, "text", { x: LEFT, y: 16, class: "bn-name" }, narrow ? "layer" : "layer; shaded: flat");
        rows.forEach((row, i) => {
          const base = bottom - STEP * i - 2;
          const ridge = axes(ground, [LEFT, base - STEP - 6, middle, base], { x: { domain: [-8, 8] }, y: { domain: [0, 35] } });
          const outline = row.flatMap((height, j) => [[-8 + (16 * j) / bins, height], [-8 + (16 * (j + 1)) / bins, height]]);
          ridge.area(outline, "bn-1");
          ridge.line(outline, "bn-1 bn-thin");
          make(ground, "text", { x: LEFT - 8, y: base - 3, "text-anchor": "end" }, layers[i]);
        });

        // Right: both begin with 1 where they enter.
        const most = Math.max(4, ...up, ...down), least = Math.min(-14, ...up, ...down);
        const domain = [Math.floor(least) - 1, Math.ceil(most) + 1];
        const ticks = [-24, -18, -12, -6, 0, 6, 12, 18, 24].filter((one) => one % (narrow ? 12 : 6) === 0 && one > domain[0] && one < domain[1]);
        const right = axes(ground, [middle + 26, TOP, width - 18, bottom], { x: { domain, ticks, told: power, name: narrow ? "" : "relative size" }, y: { domain: [1, depth + 1] } });
        make(ground, "line", { x1: right.x(0), x2: right.x(0), y1: TOP - 8, y2: bottom, class: "bn-grid" });
        for (const [sizes, kind, begins] of [[up, "bn-1", 1], [down, "bn-2", depth]]) {
          right.line(sizes.map((one, layer) => [one, layer + 1]), kind);
          right.dot(0, begins, kind);
        }
        make(ground, "text", { x: width - 18, y: 16, "text-anchor": "end", class: "bn-2 bn-strong" }, narrow ? "gradient, down" : "gradient, on its way down");
        make(ground, "text", { x: width - 18, y: 32, "text-anchor": "end", class: "bn-1 bn-strong" }, narrow ? "differences, up" : "the digits' differences, on their way up");

        return `From layer 1 up to layer ${depth} the digits' differences are multiplied by about ${power(up[depth - 1])}, from layer ${depth} down to layer 1 the gradient by about ${power(down[0])}. `
          + `In the flat part lie ${told(100 * flat, 0)}\u00a0% of what enters layer ${depth}.`;
      },
    });
    return close;
  },
};
