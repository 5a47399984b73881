// A small array, examples by channels by positions, before and after a norm. The reader chooses which numbers share their
// statistics, and a change of the input; what moves behind the norm is filled, and a table says which changes are undone.

import { axes, clamp, figure, make, told } from "./kit.js";

// Each axis is averaged over ("all"), not ("each"), or, of channels, in two halves. Biased variance, eps inside the root.
export const normalized = (x, { examples, channels, positions, centre }, eps = 1e-10) => {
  const half = x[0].length / 2;
  const set = (n, c, p) => [examples === "all" ? 0 : n, { all: 0, each: c, halves: Math.floor(c / half) }[channels], positions === "all" ? 0 : p].join();
  const members = {};
  x.forEach((one, n) => one.forEach((row, c) => row.forEach((value, p) => (members[set(n, c, p)] ??= []).push(value))));
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  for (const [key, values] of Object.entries(members)) {
    const middle = centre === "yes" ? mean(values) : 0;
    members[key] = [middle, Math.sqrt(mean(values.map((value) => (value - middle) ** 2)) + eps), values.length];
  }
  const y = x.map((one, n) => one.map((row, c) => row.map((value, p) => (value - members[set(n, c, p)][0]) / members[set(n, c, p)][1])));
  return { y, set, size: (n, c, p) => members[set(n, c, p)][2] };
};

const PARTS = { example: "its example", channel: "its channel", position: "its position", all: "everything" };
const WAYS = { times: ["times 3", (value) => 3 * value], plus: ["plus 3", (value) => value + 3] };

// The input with a change of all that lies in the same example, channel or position as a place, or of everything.
export const changed = (x, part, way, [n0, c0, p0]) => x.map((one, n) => one.map((row, c) => row.map((value, p) => (
  { example: n === n0, channel: c === c0, position: p === p0, all: true }[part] ? WAYS[way][1](value) : value))));

const CHANGES = Object.keys(PARTS).flatMap((part) => Object.keys(WAYS).map((way) => [part, way]));

const NORMS = {  // examples, channels, positions, centre
  batch: "all each all yes", layer: "each all all yes", instance: "each each all yes",
  group: "each halves all yes", place: "each all each yes", RMS: "each all all no",
};
const KEYS = ["examples", "channels", "positions", "centre"];
const TITLES = { layer: "Layer norm", place: "Layer norm of each place", group: "Group norm", batch: "Batch norm", instance: "Instance norm", RMS: "RMS norm" };

export default {
  render({ model, el }) {
    const x = model.get("x");  // nested: examples, channels, positions
    const [N, C, L] = [x.length, x[0].length, x[0][0].length];
    const places = x.flatMap((one, n) => one.flatMap((row, c) => row.map((_, p) => [n, c, p])));
    const at = ([n, c, p]) => (n * C + c) * L + p;
    const value = (array, [n, c, p]) => array[n][c][p];
    const moves = (before, after) => places.filter((place) => Math.abs(value(after, place) - value(before, place)) > 1e-6);
    const answers = [];
    let centres = [];  // of the cells of the array before the norm, in pixels

    const { body, svg, read, write, handle, close } = figure({
      model,
      el,
      label: "An array before and after a norm",
      height: 180,
      moves: { cell: [0, places.length - 1], change: [-1, CHANGES.length - 1] },  // change -1: none
      choices: [
        { name: "examples", label: "Examples", options: { each: "each", all: "all" } },
        { name: "channels", label: "Channels", options: { each: "each", halves: "halves", all: "all" } },
        { name: "positions", label: "Positions", options: { each: "each", all: "all" } },
        { name: "centre", label: "Mean", options: { yes: "subtracted", no: "kept" } },
      ],
      buttons: Object.entries(NORMS).map(([name, how]) => [name, () => Object.fromEntries(how.split(" ").map((one, i) => [KEYS[i], one]))]),
      draw: (state, ground, width) => {
        const ringed = places[Math.round(state.cell)];
        const [part, way] = CHANGES[Math.round(state.change)] ?? [];
        const { y: before, set, size } = normalized(x, state);
        const after = (...how) => normalized(changed(x, ...how, ringed), state).y;
        const input = part ? changed(x, part, way, ringed) : x;
        const y = part ? after(part, way) : before;
        const moved = moves(before, y);
        const gone = new Set(moved.map(at));

        const narrow = width < 520;
        const all = narrow ? width : width / 2;
        const [w, h, slant, gap] = [(all - 46) / (N * L), 29, 5, 18];
        const tall = C * h + L * slant + 62;
        svg?.setAttribute("height", narrow ? 2 * tall : tall);
        const sheets = (left, top, title, array, filled, kind, strong) => {
          make(ground, "text", { x: left, y: top + 18, class: "bn-strong" }, title);
          return places.map(([n, c, p]) => {
            const [X, Y] = [left + n * (L * w + gap) + p * w, top + 30 + L * slant + c * h - p * slant];
            const cell = `M${X} ${Y}L${X + w} ${Y - slant}L${X + w} ${Y - slant + h}L${X} ${Y + h}Z`;
            if (filled([n, c, p])) make(ground, "path", { d: cell, class: `bn-area ${kind}` });
            make(ground, "path", { d: cell, class: "bn-line bn-thin bn-0", "stroke-opacity": 0.5 });
            const number = value(array, [n, c, p]);
            make(ground, "text", { x: X + w / 2, y: Y + h / 2 + 2, "text-anchor": "middle", class: strong([n, c, p]) ? "bn-2 bn-strong" : "" }, told(number, kind === "bn-2" ? 2 : 0));
            if (!c && !p) make(ground, "text", { x: X + (L * w) / 2, y: top + 30 + L * slant + C * h + 15, "text-anchor": "middle", class: "bn-name" }, `example ${n + 1}`);
            return [X + w / 2, Y + h / 2 - slant / 2];
          });
        };
        centres = sheets(12, 0, "before", input, (place) => set(...place) === set(...ringed), "bn-1", (place) => value(input, place) !== value(x, place));
        const [left, top] = narrow ? [12, tall] : [width / 2 + 12, 0];
        sheets(left, top, "after", y, (place) => gone.has(at(place)), "bn-2", () => false);

        for (const [i, button] of answers.entries()) {
          const how = CHANGES[i];
          const count = moves(before, after(...how)).length;
          button.textContent = count ? `${count}\u00a0move` : "undone";
          button.ariaPressed = i === Math.round(state.change);
          button.ariaLabel = `${PARTS[how[0]]} ${WAYS[how[1]][0]}: ${button.textContent}`;
        }
        const [name] = Object.entries(NORMS).find(([, how]) => how === KEYS.map((key) => state[key]).join(" ")) ?? [];
        const others = size(...ringed) - 1;
        const far = moved.filter(([n]) => n !== ringed[0]).length;
        const said = `${TITLES[name] ?? "A norm without a name"}: the ringed ${value(x, ringed)} shares its statistics with ${others || "no"} other${others === 1 ? "" : "s"} (blue) and becomes ${told(value(before, ringed), 2)}.`;
        if (!part) return `${said} The table counts the outputs that each change would move; press one to make it.`;
        return `${said} With ${PARTS[part]} ${WAYS[way][0]} it ${moved.length ? `becomes ${told(value(y, ringed), 2)}, and ${moved.length} of ${places.length} outputs ${moved.length === 1 ? "moves" : "move"} (orange), ${far || "none"} of them in the other example` : "is the same again, as are all outputs: undone"}.`;
      },
    });
    const table = make(body, "div", { class: "bn-controls bn-undone", role: "group", "aria-label": "Which changes the norm undoes" });
    for (const words of ["undone?", ...Object.values(WAYS).map(([words]) => words)]) make(table, "span", { class: "bn-name" }, words);
    for (const [part, words] of Object.entries(PARTS)) {
      make(table, "span", {}, words);
      for (const way of Object.keys(WAYS)) {
        const button = make(table, "button", { type: "button" });
        const own = answers.length;
        button.addEventListener("click", () => write({ change: Math.round(read().change) === own ? -1 : own }));  // once more: taken back
        answers.push(button);
      }
    }
    const nearest = ([right, down]) => centres.reduce((best, [a, b], i) => (Math.hypot(a - right, b - down) < Math.hypot(centres[best][0] - right, centres[best][1] - down) ? i : best), 0);
    handle({
      label: "The ringed number",
      bounds: [0, places.length - 1],
      kind: "bn-2 bn-mark",
      at: ({ cell }) => centres[Math.round(cell)],
      drag: (pointer) => ({ cell: nearest(pointer) }),
      keys: ([right, up], { cell }) => {
        const [n, c, p] = places[Math.round(cell)];
        if (Math.abs(right) + Math.abs(up) > 1) return { cell: at([clamp(n + Math.sign(right), 0, N - 1), c, p]) };
        return { cell: at([n, clamp(c - up, 0, C - 1), clamp(p + right, 0, L - 1)]) };
      },
      say: ({ cell }) => [Math.round(cell), `example ${places[Math.round(cell)][0] + 1}, channel ${places[Math.round(cell)][1] + 1}, position ${places[Math.round(cell)][2] + 1}`],
    });
    svg.addEventListener("click", ({ clientX, clientY }) => {
      const box = svg.getBoundingClientRect();
      write({ cell: nearest([clientX - box.left, clientY - box.top]) });
    });
    return close;
  },
};
