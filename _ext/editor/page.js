// Gives the page its editors: each place becomes the code, its buttons and what came of it. Nothing is fetched before the
// reader edits (the editor) or runs (Python). Drafts, tries and what is solved stay in this browser.
const { solved, solve } = globalThis.bnProgress;  // of _static/progress.js
const PATIENCE = 10;  // seconds for an answer
const TRIES = 3;  // after which the solution opens

const keep = {
  get: (name) => { try { return localStorage.getItem(name); } catch { return null; } },
  set: (name, value) => { try { value === null ? localStorage.removeItem(name) : localStorage.setItem(name, value); } catch { /* a browser that keeps nothing */ } },
};
const make = (parent, name, attributes = {}, text = "") => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(text);
  parent?.append(element);
  return element;
};

// WORKER, BYTES and SHEET are put in by build.mjs: the worker's file, how much it fetches, and the styles.

// --- Python: one worker for the whole page --------------------------------------------------------------------------

class Stopped extends Error {}

let worker;  // while there is one: what it runs next, and the cells that it has run
const here = new URL(".", import.meta.url).href;
let source;  // of the worker, kept so that it starts again without the network
const startWorker = async () => {
  source ??= URL.createObjectURL(await (await fetch(here + WORKER, { cache: "force-cache" })).blob());
  const one = { ran: new Set(), listen: () => {}, process: new Worker(source, { type: "module" }) };
  one.process.postMessage({ here });
  one.ready = new Promise((resolve, reject) => {
    one.process.onmessage = ({ data }) => {
      if (data.ready) resolve();
      else if (data.failed) reject(new Error(data.failed));
      else one.listen(data);
    };
    one.process.onerror = (event) => { event.preventDefault(); reject(new Error(event.message || "its worker did not start")); };
    one.reject = reject;
  });
  one.ready.catch(() => {});  // it is told where it is awaited
  return one;
};
const endWorker = (reason) => {
  worker?.process.terminate();
  worker?.reject(reason);
  worker?.end?.(reason);
  worker = undefined;
};

const ask = (one, code, name) => new Promise((resolve, reject) => {
  const patience = setTimeout(() => endWorker(new Stopped(`There was no answer within ${PATIENCE} seconds, so Python was stopped. Is there a loop without an end?`)), PATIENCE * 1000);
  one.end = (reason) => { clearTimeout(patience); reject(reason); };
  one.listen = ({ result }) => { clearTimeout(patience); one.end = undefined; resolve(result); };
  one.process.postMessage({ code, name });
});

const runPython = async (place, tell) => {
  worker ??= await startWorker();
  const one = worker;
  one.listen = tell;
  try {
    await one.ready;
  } catch (error) {
    if (worker === one) endWorker(error);
    throw error;
  }
  tell({ running: true });
  // The names of the chapter's cells above must be there, as in a notebook; a check gives none.
  const above = places.slice(0, places.indexOf(place)).filter((other) => other.cell && !one.ran.has(other));
  for (const cell of above.filter(({ last }) => !/^check\(/m.test(last))) {
    const { error, traceback } = await ask(one, cell.last, cell.name);
    if (error) return { output: "", checks: [], error: `A cell above failed. ${error}`, traceback };
    one.ran.add(cell);
  }
  const result = await ask(one, place.text, place.name);
  if (place.cell) { place.last = place.text; one.ran.add(place); }
  return result;
};

// --- a place ----------------------------------------------------------------------------------------------------------

const encode = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const decode = (text) => new TextDecoder().decode(Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (one) => one.charCodeAt(0)));
const MEGABYTE = 1e6;
const NEEDED = "Python on the page needs a browser of 2023 or later (Chrome 111, Firefox 114, Safari 16.4).";
const able = () => typeof Worker === "function" && typeof WebAssembly === "object" && typeof DecompressionStream === "function";

let places = [];
let busy = false;

const setUp = (root) => {
  const { id } = root.dataset;
  const cell = root.matches(".bn-code-cell");
  const shown = cell ? root.previousElementSibling.querySelector(".highlight pre") : root.querySelector("pre");
  const name = cell ? `cell ${id}` : root.closest(".exercise").querySelector(".admonition-title").textContent.trim().replace(/\s+/g, " ");
  const stub = shown.textContent.replace(/\n+$/, "");
  const place = { root, id, name, cell, text: stub, last: stub, checks: (root.dataset.checks ?? "").split(" ").filter(Boolean) };
  const draft = `bn-draft-${id}`, tries = `bn-tries-${id}`;
  const shared = cell ? "" : location.hash.startsWith(`#${id}~`) ? location.hash.slice(id.length + 2) : "";
  try { place.text = shared ? decode(shared) : (!cell && keep.get(draft)) || stub; } catch { /* a link that was cut */ }

  // An exercise's code stands in the box; a cell's stays where it is until the editor takes its place.
  const box = make(null, "div", { class: "bn-code-text" });
  root.prepend(box);
  if (!cell) box.append(shown);
  if (place.text !== stub) shown.textContent = place.text;
  const bar = make(root, "div", { class: "bn-code-bar" });
  const button = (text, title, press) => {
    const one = make(bar, "button", { type: "button", title }, text);
    one.addEventListener("click", press);
    return one;
  };
  const run = button("Run", "Ctrl+Enter in the editor", () => start());
  const stop = button("Stop", "End Python", () => endWorker(new Stopped("Stopped.")));
  stop.hidden = true;
  const change = button("Edit", "Escape, then Tab, leaves the editor", () => open().then((editor) => editor?.focus()));
  const reset = button("Reset", "Bring back what stood here first", () => { write(stub); keep.set(draft, null); say("As it was at first."); });
  const copy = button("Copy link", "An address that holds this code", async () => {
    const address = `${location.href.split("#")[0]}#${id}~${encode(place.text)}`;
    try {
      await navigator.clipboard.writeText(address);
      say("The link is in the clipboard. It holds the code, which is sent nowhere.");
    } catch {
      history.replaceState(history.state, "", address);
      say("The address of this page holds the code now: copy it from there.");
    }
  });
  if (!cell) make(root, "p", { class: "bn-code-keys" }, `np and check are imported. The first run fetches Python from this site, ${(BYTES / MEGABYTE).toFixed(0)} MB, once; your code stays in this browser.`);
  reset.hidden = copy.hidden = cell;  // a cell's page is not for writing
  const bytes = make(root, "progress", { "aria-label": "Python is being fetched", hidden: "" });
  const sentence = make(root, "p", { class: "bn-code-said", role: "status" });
  const details = make(root, "div", { class: "bn-code-more" });
  const say = (text, kind = "") => { sentence.textContent = text; sentence.dataset.kind = kind; };

  let editor;
  const open = async () => {
    try {
      const { edit } = await import("./code.js");
      if (editor) return editor;
      if (cell) {
        shown.closest(".cell_input").hidden = true;
        reset.hidden = false;
      } else shown.remove();
      editor = edit({
        parent: box, text: place.text, label: name, run: () => start(),
        change: (text) => { place.text = text; if (!cell) keep.set(draft, text === stub ? null : text); },
      });
      change.hidden = true;
      make(root, "p", { class: "bn-code-keys" }, "Ctrl+Enter runs; Tab indents; Escape, then Tab, leaves the editor.");
      root.insertBefore(root.lastChild, sentence);
    } catch {
      say("The editor could not be fetched. Is there a connection?", "bad");
    }
    return editor;
  };
  const write = (text) => {
    place.text = text;
    if (editor) editor.set(text);
    else shown.textContent = text;
  };
  box.addEventListener("click", () => { if (!editor && !getSelection().toString()) open().then((one) => one?.focus()); });

  const tell = ({ fetched, total, starting, running }) => {
    if (fetched) {
      bytes.hidden = false;
      [bytes.max, bytes.value] = [total, fetched];
      const text = `Python is being fetched: ${(total / MEGABYTE).toFixed(0)} MB, this once.`;
      if (sentence.textContent !== text) say(text);  // the bar moves; the sentence is said once
    } else if (starting) { bytes.hidden = true; say("Python is starting."); } else if (running) { bytes.hidden = true; say("Running."); }
  };
  const start = async () => {
    if (busy) return;
    details.replaceChildren();
    if (!able()) { say(NEEDED, "bad"); return; }
    busy = true;
    root.classList.add("bn-running");
    for (const one of places) one.run.disabled = true;
    stop.hidden = false;
    say("Python is starting.");
    try {
      show(await runPython(place, tell));
    } catch (error) {
      say(error instanceof Stopped ? error.message : `Python could not be started: ${error.message}. ${navigator.onLine ? NEEDED : "There is no connection."}`, "bad");
    } finally {
      busy = false;
      bytes.hidden = stop.hidden = true;
      root.classList.remove("bn-running");
      for (const one of places) one.run.disabled = false;
    }
  };

  const show = ({ output, checks, error, traceback }) => {
    const right = checks.length && checks.every((one) => one.right) && !error;
    if (error) say(error, "bad");
    else if (checks.length) say(checks.map((one) => one.sentence).join(" "), right ? "good" : "bad");
    else say(output ? "It has run." : "It has run, and printed nothing.");
    for (const { right: good, seen, where, remedies } of checks) {
      if (seen.length) {
        const list = make(details, "ul");
        for (const one of seen) make(list, "li", {}, one);
      }
      if (!good) hints([where, remedies.join(" ")].filter(Boolean));
    }
    if (output) make(details, "pre", { class: "bn-code-output", tabindex: "0" }, output);
    if (traceback) make(details, "pre", { class: "bn-code-output", tabindex: "0" }, traceback);
    for (const one of checks) if (one.right && place.checks.includes(one.exercise)) solve(one.exercise);
    mark();
    if (!place.checks.length) return;
    const count = Number(keep.get(tries) ?? 0) + 1;
    keep.set(tries, right ? null : String(count));
    if (right || count >= TRIES) offerSolution();
  };
  // First where to look, then how to mend it.
  const hints = (stages) => {
    const one = make(details, "button", { type: "button" }, "Hint");
    const place = make(details, "div", { role: "status" });
    one.addEventListener("click", () => {
      make(place, "p", {}, stages.shift());
      one.textContent = "How to mend it";
      if (!stages.length) one.remove();
    });
  };
  const offerSolution = () => {
    let solution = root.closest(".exercise")?.nextElementSibling;
    while (solution && !solution.matches(".solution, .exercise")) solution = solution.nextElementSibling;
    if (!solution?.matches(".solution")) return;
    make(make(details, "p"), "a", { href: `#${solution.id}` }, "The solution is open below.");
    if (solution.classList.contains("toggle-hidden")) solution.querySelector(".toggle-button").click();
  };
  const mark = () => root.classList.toggle("bn-is-solved", place.checks.length > 0 && place.checks.every((one) => one in solved()));

  root.hidden = false;
  mark();
  if (shared) root.scrollIntoView();
  return Object.assign(place, { run });
};

const setUpAll = () => {
  document.querySelectorAll(".cell.tag_runs-here > .cell_input").forEach((input, index) => {
    const root = Object.assign(document.createElement("div"), { className: "bn-code bn-code-cell noprint", hidden: true });
    root.dataset.id = `cell-${index + 1}`;
    input.after(root);
  });
  places = [...document.querySelectorAll(".bn-code")].map(setUp);
};
make(document.head, "link", { rel: "stylesheet", href: here + SHEET }).addEventListener("load", setUpAll);
