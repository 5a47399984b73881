// A map of learning rates and gains: what became of eight seeds at each pair, without batch norm and with it. All of it
// was measured; the reader chooses a field, and sees its seeds.

import { axes, clamp, figure, make, told } from "./kit.js";

// Of one field: the median share of right answers, and how many seeds reach the target. right: right answers of each
// seed, out of so many images.
export const field = (right, images, target) => {
  const sorted = [...right].sort((a, b) => a - b);
  const half = sorted.length / 2;
  const median = (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2;
  return { median: median / images, reach: right.filter((one) => one >= target * images).length, there: median >= target * images };
};

const NORMS = { without: "bn-2", "with batch norm": "bn-1" };
const TOP = 38, HIGH = 24, BELOW = 40, STRIP = 92;

export default {
  render({ model, el }) {
    // right: by unit and norm, [gain][rate][seed]
    const { units, rates, gains, right, images, target } = Object.fromEntries(["units", "rates", "gains", "right", "images", "target"].map((name) => [name, model.get(name)]));
    const bottom = TOP + HIGH * gains.length;
    const seeds = right[units[0]].without[0][0].length;
    const of = (unit, norm) => right[unit][norm].map((row) => row.map((one) => field(one, images, target)));
    const maps = Object.fromEntries(units.map((unit) => [unit, Object.fromEntries(Object.keys(NORMS).map((norm) => [norm, of(unit, norm)]))]));
    const places = (width) => {  // of the two maps: left edges, and the width of a field
      const left = width < 420 ? 36 : 44, gap = width < 420 ? 12 : 26;
      const wide = (width - left - gap - 12) / 2 / rates.length;
      return { wide, lefts: [left, left + wide * rates.length + gap] };
    };
    const best = (norm) => ({ unit }) => {
      const all = maps[unit][norm].flatMap((row, gain) => row.map(({ median }, rate) => ({ median, gain, rate })));
      const { gain, rate } = all.reduce((most, one) => (one.median > most.median ? one : most));
      return { gain, rate };
    };

    const { svg, write, close } = figure({
      model,
      el,
      label: "Accuracy over learning rate and gain, without and with batch norm",
      height: bottom + BELOW + STRIP + 52,
      sliders: [
        { name: "rate", label: "learning rate", min: 0, max: rates.length - 1, step: 1, told: (i) => `${rates[Math.round(i)]}` },
        { name: "gain", label: "gain", min: 0, max: gains.length - 1, step: 1, told: (i) => `${gains[Math.round(i)]}` },
      ],
      choices: [{ name: "unit", label: "Units", options: Object.fromEntries(units.map((unit) => [unit, unit])) }],
      buttons: [["best without", best("without")], ["best with batch norm", best("with batch norm")], ["start again", (_, start) => start]],
      draw: ({ unit, ...place }, ground, width) => {
        const [rate, gain] = [place.rate, place.gain].map(Math.round);
        const { wide, lefts } = places(width);
        const top = bottom + BELOW + 8;
        const strip = axes(ground, [lefts[0] + 60, top, width - 20, top + STRIP], { x: { domain: [0, 1], ticks: [0, 0.5, target], name: "validation accuracy, a dot for each seed" }, y: { domain: [0, 1] } });
        make(ground, "line", { x1: strip.x(target), x2: strip.x(target), y1: top, y2: top + STRIP, class: "bn-bound" });
        Object.entries(NORMS).forEach(([norm, kind], k) => {
          const fields = maps[unit][norm];
          make(ground, "text", { x: lefts[k], y: TOP - 10, class: `bn-strong ${kind}` }, norm);
          fields.forEach((row, g) => row.forEach(({ median, there }, r) => {
            const at = { x: lefts[k] + r * wide, y: bottom - (g + 1) * HIGH };
            const cell = make(ground, "rect", { ...at, width: wide - 1, height: HIGH - 1, class: kind });
            cell.style.fill = `color-mix(in srgb, var(--kind) ${Math.round(6 + 94 * median)}%, var(--bn-paper))`;
            if (there) make(ground, "circle", { cx: at.x + wide / 2 - 0.5, cy: at.y + HIGH / 2, r: 2.5, style: "fill: var(--bn-paper)" });
          }));
          for (const [ink, thick] of [["paper", 7], ["ink", 3]]) make(ground, "rect", { x: lefts[k] + rate * wide - 1, y: bottom - (gain + 1) * HIGH - 1, width: wide + 1, height: HIGH + 1, rx: 2, style: `fill: none; stroke: var(--bn-${ink}); stroke-width: ${thick}` });
          rates.forEach((value, r) => { if (wide < 18 ? r % 4 === 2 : r % 2 === 0) make(ground, "text", { x: lefts[k] + (r + 0.5) * wide, y: bottom + 17, "text-anchor": "middle" }, `${value}`); });
          const middle = top + 23 + k * 44;
          make(ground, "text", { x: lefts[0] + 48, y: middle + 4, "text-anchor": "end", class: kind }, norm.split(" ")[0]);
          make(ground, "line", { x1: strip.x(fields[gain][rate].median), x2: strip.x(fields[gain][rate].median), y1: middle - 18, y2: middle + 18, class: `bn-line ${kind}` });
          right[unit][norm][gain][rate].forEach((one, i) => make(ground, "circle", { cx: strip.x(one / images), cy: middle + (i - (seeds - 1) / 2) * 4.2, r: 3.5, class: `bn-dot ${kind}`, "fill-opacity": 0.8 }));
        });
        gains.forEach((value, g) => { if (g % 2 === 0) make(ground, "text", { x: lefts[0] - 5, y: bottom - (g + 0.5) * HIGH + 4, "text-anchor": "end" }, `${value}`); });
        make(ground, "text", { x: 6, y: 17, class: "bn-name" }, "gain");
        make(ground, "text", { x: width - 12, y: bottom + 33, "text-anchor": "end", class: "bn-name" }, "learning rate");
        const [plain, normed] = Object.keys(NORMS).map((norm) => maps[unit][norm]);
        const [a, b] = [plain[gain][rate], normed[gain][rate]];
        const fields = (map) => map.flat().filter(({ there }) => there).length;
        return `At rate ${rates[rate]} and gain ${gains[gain]} the median accuracy is ${told(a.median, 2)} without batch norm (${a.reach} of ${seeds} seeds reach ${told(target, 2)}) `
          + `and ${told(b.median, 2)} with it (${b.reach} of ${seeds}). The median reaches ${told(target, 2)} in ${fields(plain)} of ${rates.length * gains.length} fields without, in ${fields(normed)} with batch norm.`;
      },
    });
    const choose = (event) => {
      const box = svg.getBoundingClientRect();
      const { wide, lefts } = places(svg.clientWidth);
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      if (y < TOP || y > bottom || x < lefts[0]) return;
      const left = lefts[x < lefts[1] - 6 ? 0 : 1];
      write({ rate: clamp(Math.floor((x - left) / wide), 0, rates.length - 1), gain: clamp(Math.floor((bottom - y) / HIGH), 0, gains.length - 1) }, event.type === "click");
    };
    svg.addEventListener("click", choose);
    svg.addEventListener("pointermove", (event) => { if (event.buttons === 1) choose(event); });
    svg.style.cursor = "pointer";
    return close;
  },
};
