// The loss of a mini-batch along the gradient of one update, with batch norm and without, beside what the gradient promised
// (dashed). One kind of network is large, with handle, promise and the middle six of eight seeds; the others stand small.

import { axes, clamp, figure, make, told } from "./kit.js";

const NAMES = { sigmoid: "sigmoid", tanh: "tanh", relu: "ReLU" };
const ARMS = [["none", "bn-2", "Without batch norm"], ["batch", "bn-1", "With it"]];
const MOST = 2;  // of the loss, as a share of what it was before
const LEFT = 34, TOP = 50;

// What of a promised fall has come, where the loss is a share of what it was, so many steps along; below 0 it has risen.
export const kept = (share, slope, step) => (1 - share) / (slope * step);

// A curve as far as it stays below the top, and the point where it leaves.
export const below = (points, top) => {
  const out = points.findIndex(([, value]) => value > top);
  if (out < 0) return points;
  if (out === 0) return [];
  const [[a, b], [c, d]] = [points[out - 1], points[out]];
  return [...points.slice(0, out), [a + ((c - a) * (top - b)) / (d - b), top]];
};

export default {
  render({ model, el }) {
    // curves: by network, by arm and for each update { slope, low, mid, high }; rates by network and arm
    const [updates, steps, rates, curves] = ["updates", "steps", "rates", "curves"].map((name) => model.get(name));
    const far = steps.at(-1);
    const nearest = (step) => steps.reduce((best, one) => (Math.abs(one - step) < Math.abs(best - step) ? one : best));
    const curve = (unit, arm, at) => curves[unit][arm][Math.round(at)];
    let large;  // the axes of the chosen network, as last drawn

    const { handle, close } = figure({
      model,
      el,
      label: "The loss along the gradient of one update, with batch norm and without",
      height: 310,
      moves: { step: [0, far] },
      sliders: [{ name: "at", label: "update", min: 0, max: updates.length - 1, step: 1, told: (at) => String(updates[Math.round(at)]) }],
      choices: [{ name: "unit", label: "Network", options: NAMES }],
      draw: ({ unit, at, step: free }, ground, width) => {
        const step = nearest(free);
        const i = steps.indexOf(step);
        const narrow = width < 520;
        ground.ownerSVGElement.setAttribute("height", narrow ? 434 : 310);
        const right = narrow ? width - 14 : width * 0.62;
        const bottom = narrow ? 234 : 264;
        const draw = (box, one, small) => {
          const panel = axes(ground, box, {
            x: { domain: [0, far], ticks: small ? [0, 2, 4] : [0, 1, 2, 3, 4], name: small ? "" : "length of the step; 1: as it was made" },
            y: { domain: [0, MOST], ticks: small ? [0, 1, 2] : [0, 0.5, 1, 1.5, 2], told: (tick) => String(tick) },
          });
          if (small) make(ground, "text", { x: box[0], y: box[1] - 10 }, NAMES[one]);
          panel.line([[step, 0], [step, MOST]], "bn-0 bn-thin");
          for (const [arm, kind] of ARMS) {
            const { slope, low, mid, high } = curve(one, arm, at);
            if (!small) {
              const edge = (values) => steps.map((s, j) => [s, Math.min(MOST, values[j])]);
              make(ground, "path", { d: `M${[...edge(low), ...edge(high).reverse()].map(([a, b]) => `${panel.x(a)} ${panel.y(b)}`).join("L")}Z`, class: `bn-area ${kind}` });
              panel.line([[0, 1], [Math.min(far, 1 / slope), Math.max(0, 1 - far * slope)]], `${kind} bn-dashed`);
            }
            panel.line(below(steps.map((s, j) => [s, mid[j]]), MOST), kind);
            if (mid[i] <= MOST) panel.dot(step, mid[i], kind, small ? 3.5 : 5);
          }
          return panel;
        };
        large = draw([LEFT, TOP, right, bottom], unit, false);
        const others = Object.keys(NAMES).filter((one) => one !== unit);
        others.forEach((one, j) => {
          const half = (width - 14 - LEFT) / 2;
          const [from, top] = narrow ? [LEFT + j * (half + 18), 308] : [right + 62, 30 + j * 146];
          draw([from, top, narrow ? from + half - 18 : width - 18, top + (narrow ? 100 : 88)], one, true);
        });
        const label = (x, y, words, kind, anchor = "start") => make(ground, "text", { x, y, "text-anchor": anchor, class: kind }, words);
        label(LEFT, 18, `${NAMES[unit]}: ${narrow ? "loss left" : "loss / loss before"}`, "bn-strong");
        label(right, 18, "dashed: promised", "bn-0", "end");
        label(LEFT, 37, "without batch norm", "bn-2");
        label(right, 37, "with it", "bn-1", "end");
        if (!step) return `Update ${updates[Math.round(at)]}, ${NAMES[unit]}: no step is made, and the loss is what it was.`;
        const ends = (arm) => {
          const { slope, mid } = curve(unit, arm, at);
          const lowest = steps[mid.indexOf(Math.min(...mid))];
          const share = mid[i] > 1 ? "though the gradient promised a fall" : `${told(100 * kept(mid[i], slope, step), 0)} % of the promised fall`;
          return `the loss ${mid[i] > 1 ? "rises" : "falls"} to ${told(mid[i], 2)}, ${share}; it is lowest at ${told(lowest, 2)}`;
        };
        return `Update ${updates[Math.round(at)]}, ${NAMES[unit]}, at ${told(step, 2)} of the step. ${ARMS.map(([arm, , name]) => `${name} (rate ${rates[unit][arm]}) ${ends(arm)}.`).join(" ")}`;
      },
    });
    handle({
      label: "Length of the step",
      bounds: [0, far],
      kind: "bn-0",
      at: ({ step }) => [large.x(nearest(step)), large.y(0)],
      drag: ([right]) => ({ step: nearest(large.x.invert(right)) }),
      keys: ([right, up], { step }) => ({ step: clamp(nearest(step) + (right + up) / (Math.abs(right + up) > 1 ? 10 : 4), 0, far) }),
      say: ({ step }) => [nearest(step), `${told(nearest(step), 2)} of the step`],
    });
    return close;
  },
};
