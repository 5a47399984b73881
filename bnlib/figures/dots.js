// Batch norm of one unit: its values on a line, each a dot that can be moved, and what becomes of them on a line below.
// A module of anywidget's form: render({ model, el }) draws into el what model.get says, and model.set what was moved.

// The page's formula: biased variance, eps inside the root.
export const normalize = (x, gamma, beta, eps) => {
  const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
  const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length;
  return { mean, variance, y: x.map((value) => (gamma * (value - mean)) / Math.sqrt(variance + eps) + beta) };
};

const SVG = "http://www.w3.org/2000/svg";
const LOW = -4, HIGH = 24;  // of the upper line; the lower one shows REACH on either side of 0
const REACH = 5;
const LEFT = 22, ABOVE = 88, BELOW = 196, HEIGHT = 244;
const NEAR = 19;  // pixels between two dots that would hide each other: then one stands higher
const SLIDERS = [
  { name: "n", label: "examples", min: 2, max: 16, step: 1 },
  { name: "gamma", label: "γ", min: -2, max: 3, step: 0.1 },
  { name: "beta", label: "β", min: -2, max: 2, step: 0.1 },
  { name: "log_eps", label: "log₁₀ ε", min: -5, max: 2, step: 0.5 },
];
const told = (value, digits = 1) => value.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−");

const make = (parent, tag, attributes = {}, text = "") => {
  const element = parent.namespaceURI === SVG || tag === "svg" ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return parent.appendChild(element);
};

export default {
  render({ model, el }) {
    const start = Object.fromEntries(["x", ...SLIDERS.map(({ name }) => name)].map((name) => [name, model.get(name)]));
    const read = () => Object.fromEntries(Object.keys(start).map((name) => [name, model.get(name)]));
    const write = (changes, done = true) => {
      for (const [name, value] of Object.entries(changes)) model.set(name, value);
      words.ariaLive = done ? "polite" : "off";
      draw();
      if (done) model.save_changes();
    };
    const move = (i, value, done) => {
      const x = [...model.get("x")];
      x[i] = Math.min(HIGH, Math.max(LOW, Math.round(10 * value) / 10));
      write({ x }, done);
    };
    const all = (change) => write({ x: model.get("x").map((value) => Math.min(HIGH, Math.max(LOW, change(value)))) });

    const svg = make(el, "svg", { role: "group", "aria-label": "Values of one unit, and what batch norm makes of them", height: HEIGHT });
    const ground = make(svg, "g");
    const handles = start.x.map((_, i) => {
      const handle = make(svg, "g", { tabindex: 0, role: "slider", "aria-label": `Example ${i + 1}`, "aria-valuemin": LOW, "aria-valuemax": HIGH });
      handle.classList.add("bn-handle", ...(i ? [] : ["bn-marked"]));
      make(handle, "circle", { r: 15, class: "bn-touch" });
      make(handle, "circle", { r: 8 });
      handle.addEventListener("pointerdown", (event) => {
        handle.setPointerCapture(event.pointerId);
        handle.focus();
      });
      const drag = (event, done) => handle.hasPointerCapture(event.pointerId)
        && move(i, LOW + ((event.clientX - svg.getBoundingClientRect().left - LEFT) / inner()) * (HIGH - LOW), done);
      handle.addEventListener("pointermove", (event) => drag(event, false));
      handle.addEventListener("pointerup", (event) => drag(event, true));
      handle.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 0.5, ArrowUp: 0.5, ArrowLeft: -0.5, ArrowDown: -0.5, PageUp: 3, PageDown: -3 }[event.key];
        if (!step) return;
        event.preventDefault();
        move(i, model.get("x")[i] + step, true);
      });
      return handle;
    });
    const controls = make(el, "div", { class: "bn-controls" });
    const sliders = SLIDERS.map(({ name, label, ...range }) => {
      const field = make(controls, "label", {}, `${label} `);
      const input = make(field, "input", { type: "range", ...range });
      const value = make(field, "output");
      input.addEventListener("input", () => write({ [name]: Number(input.value) }, false));
      input.addEventListener("change", () => write({ [name]: Number(input.value) }));
      return { name, input, value };
    });
    const buttons = make(controls, "div");
    for (const [label, press] of [
      ["add 3 to all", () => all((value) => value + 3)],
      ["halve all", () => all((value) => value / 2)],
      ["move the others", () => write({ x: model.get("x").map((value, i) => (i ? LOW + ((7 * (value - LOW) + 3 * i + 5) % (HIGH - LOW)) : value)) })],
      ["start again", () => write(start)],
    ]) make(buttons, "button", { type: "button" }, label).addEventListener("click", press);
    const words = make(el, "p", { class: "bn-words", role: "status" });

    const inner = () => Math.max(200, el.clientWidth) - 2 * LEFT;
    const upper = (value) => LEFT + ((value - LOW) / (HIGH - LOW)) * inner();
    const lower = (value) => LEFT + ((Math.min(REACH, Math.max(-REACH, value)) + REACH) / (2 * REACH)) * inner();

    const line = (y, place, ticks, name) => {
      make(ground, "line", { x1: LEFT, x2: LEFT + inner(), y1: y, y2: y });
      for (const tick of ticks) {
        make(ground, "line", { x1: place(tick), x2: place(tick), y1: y, y2: y + 5 });
        make(ground, "text", { x: place(tick), y: y + 19, "text-anchor": "middle" }, told(tick, 0));
      }
      make(ground, "text", { x: LEFT + inner(), y: y - 8, "text-anchor": "end", class: "bn-name" }, name);
    };

    const draw = () => {
      const { x: all, n, gamma, beta, log_eps } = read();
      const x = all.slice(0, n);
      const { mean, variance, y } = normalize(x, gamma, beta, 10 ** log_eps);
      const most = Math.sqrt(n - 1);
      svg.setAttribute("width", inner() + 2 * LEFT);
      ground.replaceChildren();
      for (const side of [-1, 1]) {
        const bound = lower(beta + side * Math.abs(gamma) * most);
        make(ground, "line", { x1: bound, x2: bound, y1: BELOW - 24, y2: BELOW, class: "bn-bound" });
      }
      line(ABOVE, upper, [0, 5, 10, 15, 20], "before");
      line(BELOW, lower, [-4, -2, 0, 2, 4], "after");
      const placed = [];
      handles.forEach((handle, i) => {
        handle.style.display = i < n ? "" : "none";
        if (i >= n) return;
        const at = upper(x[i]);
        let height = ABOVE;
        while (placed.some(([a, h]) => Math.abs(a - at) < NEAR && h === height)) height -= NEAR;
        placed.push([at, height]);
        handle.setAttribute("transform", `translate(${at} ${height})`);
        handle.setAttribute("aria-valuenow", x[i]);
        handle.setAttribute("aria-valuetext", `${told(x[i])} becomes ${told(y[i], 2)}`);
        const kind = i ? "bn-path" : "bn-path bn-marked";
        make(ground, "line", { x1: at, y1: height, x2: lower(y[i]), y2: BELOW, class: kind });
        make(ground, "circle", { cx: lower(y[i]), cy: BELOW, r: 5, class: kind });
      });
      for (const { name, input, value } of sliders) {
        input.value = read()[name];
        value.textContent = told(read()[name], name === "n" ? 0 : 1);
      }
      words.textContent = `Mean ${told(mean)}, standard deviation ${told(Math.sqrt(variance))}. `
        + `The orange ${told(x[0])} becomes ${told(y[0], 2)}. With ${n} examples no standard score is beyond √${n - 1} = ${told(most, 2)}.`;
    };

    const observer = new ResizeObserver(draw);
    observer.observe(el);
    for (const name of Object.keys(start)) model.on(`change:${name}`, draw);
    draw();
    return () => observer.disconnect();
  },
};
