// What the live figures share: a stage with its controls, words and handles, and axes to draw on.

const SVG = "http://www.w3.org/2000/svg";

export const make = (parent, tag, attributes = {}, text = "") => {
  const element = parent.namespaceURI === SVG || tag === "svg" ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return parent.appendChild(element);
};

export const told = (value, digits = 1) => value.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−");
export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
export const counted = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

// From numbers between low and high to pixels between from and to, and back.
export const scale = ([low, high], [from, to]) => Object.assign(
  (value) => from + ((value - low) / (high - low)) * (to - from),
  { invert: (pixel) => low + ((pixel - from) / (to - from)) * (high - low) },
);

// Two axes in a box [left, top, right, bottom] of pixels. An axis is { domain: [low, high], ticks: [...], name, told };
// without ticks it is not drawn. Gives the scales x and y, and line, area, dot and text at places in numbers.
export const axes = (ground, [left, top, right, bottom], { x, y }) => {
  const [sx, sy] = [scale(x.domain, [left, right]), scale(y.domain, [bottom, top])];
  const inside = (value) => clamp(value, -5000, 5000);  // pixels; what a drawing cannot hold
  const many = (points) => points.filter((point) => point.every(Number.isFinite)).map(([a, b]) => `${inside(sx(a)).toFixed(1)} ${inside(sy(b)).toFixed(1)}`).join("L");
  if (x.ticks) {
    make(ground, "line", { x1: left, x2: right, y1: bottom, y2: bottom });
    for (const tick of x.ticks) {
      make(ground, "line", { x1: sx(tick), x2: sx(tick), y1: bottom, y2: bottom + 5 });
      make(ground, "text", { x: sx(tick), y: bottom + 19, "text-anchor": "middle" }, (x.told ?? String)(tick).replace("-", "−"));
    }
    if (x.name) make(ground, "text", { x: right, y: bottom + (x.ticks.length ? 36 : 19), "text-anchor": "end", class: "bn-name" }, x.name);
  }
  if (y.ticks) {
    for (const tick of y.ticks) {
      make(ground, "line", { x1: left, x2: right, y1: sy(tick), y2: sy(tick), class: "bn-grid" });
      make(ground, "text", { x: left - 6, y: sy(tick) + 4, "text-anchor": "end" }, (y.told ?? String)(tick).replace("-", "−"));
    }
    if (y.name) make(ground, "text", { x: left, y: top - 8, class: "bn-name" }, y.name);
  }
  return {
    x: sx,
    y: sy,
    line: (points, kind = "bn-1", more = {}) => make(ground, "path", { d: `M${many(points)}`, class: `bn-line ${kind}`, ...more }),
    area: (points, kind = "bn-1", base = y.domain[0]) => make(ground, "path", { d: `M${many([[points[0][0], base], ...points, [points.at(-1)[0], base]])}Z`, class: `bn-area ${kind}` }),
    dot: (a, b, kind = "bn-1", r = 5) => make(ground, "circle", { cx: inside(sx(a)), cy: inside(sy(b)), r, class: `bn-dot ${kind}` }),
    text: (a, b, words, kind = "", more = {}) => make(ground, "text", { x: inside(sx(a)), y: inside(sy(b)), class: kind, ...more }, words),
  };
};

// A live figure in el. Its state: what sliders, choices and handles move, each with its range.
//   moves: of numbers and arrays that handles move, by name [low, high]
//   sliders: { name, label, min, max, step, digits or told }
//   choices: { name, label, options: { value: label } } is one of several buttons; without options, a switch: on or off
//   buttons: [label, (state, start) => changes]
//   height: of the drawing, in pixels; without it there is no drawing, and body is a place for elements
//   draw(state, ground, width): draws anew and returns the words below; ground is empty then
// Gives { body, svg, read, write, handle }: write(changes) changes the state and draws; handle adds what can be dragged.
export const figure = ({ model, el, label, height, moves = {}, sliders = [], choices = [], buttons = [], draw }) => {
  const valid = {
    ...Object.fromEntries(Object.entries(moves).map(([name, [low, high]]) => [name, (value) => (Array.isArray(value) ? value.map((one) => clamp(one, low, high)) : clamp(value, low, high))])),
    ...Object.fromEntries(sliders.map(({ name, min, max }) => [name, (value) => clamp(value, min, max)])),
    ...Object.fromEntries(choices.map(({ name, options }) => [name, (value) => (!options || value in options ? value : Object.keys(options)[0])])),
  };
  const names = Object.keys(valid);
  const read = () => Object.fromEntries(names.map((name) => [name, valid[name](model.get(name))]));
  const start = read();
  const write = (changes, done = true) => {
    for (const [name, value] of Object.entries(changes)) model.set(name, valid[name](value));
    words.ariaLive = done ? "polite" : "off";  // nothing is read out while something is dragged
    redraw();
    if (done) model.save_changes();
  };

  el.classList.add("bn-live");  // as on the site
  const body = make(el, "div", { class: "bn-body" });
  const svg = height && make(body, "svg", { role: "group", "aria-label": label, height });
  const ground = svg && make(svg, "g");
  const controls = make(el, "div", { class: "bn-controls" });
  const inputs = sliders.map(({ name, label: text, min, max, step, digits = 1, told: say = (value) => told(value, digits) }) => {
    const field = make(controls, "label", {}, `${text} `);
    const input = make(field, "input", { type: "range", min, max, step });
    const value = make(field, "output");
    input.addEventListener("input", () => write({ [name]: Number(input.value) }, false));
    input.addEventListener("change", () => write({ [name]: Number(input.value) }));
    return (state) => { input.value = state[name]; input.ariaValueText = value.textContent = say(state[name]); };
  });
  const switches = make(controls, "div");
  for (const { name, label: text, options } of choices) {
    const parent = options ? make(make(controls, "div"), "div", { role: "group", "aria-label": text, class: "bn-choice" }) : switches;
    if (options) make(parent, "span", { class: "bn-name" }, text);
    for (const [value, said] of options ? Object.entries(options) : [[true, text]]) {
      const button = make(parent, "button", { type: "button" }, said);
      button.addEventListener("click", () => write({ [name]: options ? value : !read()[name] }));
      inputs.push((state) => { button.ariaPressed = state[name] === value; });
    }
  }
  for (const [text, press] of buttons) make(switches, "button", { type: "button" }, text).addEventListener("click", () => write(press(read(), start)));
  controls.append(switches);
  if (!sliders.length && !choices.length && !buttons.length) controls.remove();
  const words = make(el, "p", { class: "bn-words", role: "status" });

  // What can be dragged: at(state) gives its place [x, y] in pixels (or null: not there), drag([x, y], state) the changes
  // for a pointer at a place, keys([right, up], state) those for an arrow (1) or a page key (5), say(state) its value:
  // [number, words] between bounds [low, high].
  const handles = [];
  const handle = ({ label: name, bounds: [low, high], kind = "bn-1", at, drag, keys, say }) => {
    const group = make(svg, "g", { tabindex: 0, role: "slider", "aria-label": name, "aria-valuemin": low, "aria-valuemax": high, class: `bn-handle ${kind}`, style: "display: none" });  // until it has a place
    make(group, "circle", { r: 15, class: "bn-touch" });
    make(group, "circle", { r: 8 });
    group.addEventListener("pointerdown", (event) => {
      group.setPointerCapture(event.pointerId);
      group.focus();
    });
    const dragged = (event, done) => {
      if (!group.hasPointerCapture(event.pointerId)) return;
      const box = svg.getBoundingClientRect();
      write(drag([event.clientX - box.left, event.clientY - box.top], read()), done);
    };
    group.addEventListener("pointermove", (event) => dragged(event, false));
    group.addEventListener("pointerup", (event) => dragged(event, true));
    group.addEventListener("keydown", (event) => {
      const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1], PageUp: [5, 5], PageDown: [-5, -5] }[event.key];
      if (!step) return;
      event.preventDefault();
      write(keys(step, read()));
    });
    handles.push((state) => {
      const place = at(state);
      group.style.display = place ? "" : "none";
      if (!place) return;
      const [number, text] = say(state);
      group.setAttribute("transform", `translate(${place.join(" ")})`);
      group.setAttribute("aria-valuenow", number);
      group.setAttribute("aria-valuetext", text);
    });
    return group;
  };

  const redraw = () => {
    const state = read();
    const width = Math.max(240, el.clientWidth);
    svg?.setAttribute("width", width);
    ground?.replaceChildren();
    words.textContent = draw(state, ground, width);
    for (const put of [...handles, ...inputs]) put(state);
  };
  for (const name of names) model.on(`change:${name}`, redraw);
  const observer = new ResizeObserver(redraw);
  observer.observe(el);  // which also draws for the first time
  return { body, svg, read, write, handle, close: () => observer.disconnect() };
};
