// Mounts a page's live figures over their pictures, each when it comes near the screen. What a reader has moved stands
// in the address behind the figure's name, and an address with it shows the figure so.

const mark = (id) => `#${id}~`;

const modelOf = (id, given) => {
  let shared = {};
  if (location.hash.startsWith(mark(id))) {
    try { shared = JSON.parse(decodeURIComponent(location.hash.slice(mark(id).length))); } catch { /* as if there were none */ }
  }
  // What is not of the kind that the figure has is left alone.
  const numbers = (value) => Array.isArray(value) && value.every(Number.isFinite);
  const alike = (value, own) => (numbers(own) ? numbers(value) && value.length === own.length : typeof own !== "object" && typeof value === typeof own);
  const kept = Object.entries(shared ?? {}).filter(([name, value]) => name in given && alike(value, given[name]));
  const state = { ...given, ...Object.fromEntries(kept) };
  const listeners = new Map();
  return {
    get: (name) => state[name],
    set: (name, value) => { state[name] = value; },
    on: (event, call) => listeners.set(event, [...(listeners.get(event) ?? []), call]),
    off: (event, call) => listeners.set(event, (listeners.get(event) ?? []).filter((one) => one !== call)),
    save_changes: () => {
      const moved = Object.entries(state).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(given[name]));
      history.replaceState(history.state, "", mark(id) + encodeURIComponent(JSON.stringify(Object.fromEntries(moved))));
    },
  };
};

let styled;  // once for all figures
const style = () => styled ??= new Promise((resolve, reject) => {
  const sheet = Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL("live.css", import.meta.url), onload: resolve });
  sheet.onerror = () => reject(new Error(`${sheet.href} did not come`));
  document.head.append(sheet);
});

const mount = async (place) => {
  const figure = place.closest("figure");
  const [{ default: live }] = await Promise.all([import(place.dataset.module), style()]);
  place.hidden = false;  // so that it has a width
  try {
    await live.render({ model: modelOf(figure.id, JSON.parse(place.dataset.state)), el: place });
    figure.classList.add("bn-mounted");
  } catch (error) {
    place.hidden = true;  // the picture stays
    throw error;
  }
};

const observer = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    observer.unobserve(target);
    mount(target.querySelector(".bn-live"));
  }
}, { rootMargin: "400px" });
for (const place of document.querySelectorAll("figure > .bn-live")) {
  const figure = place.closest("figure");
  observer.observe(figure);
  if (location.hash.startsWith(mark(figure.id))) figure.scrollIntoView();
}
