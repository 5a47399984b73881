// Gives the page its editors: each place becomes the code, its buttons and what came of it. Nothing is fetched before the
// reader edits (the editor) or runs (Python). Drafts, tries and what is solved stay in this browser.
const { solved, solve } = globalThis.bnProgress;  // of _static/progress.js
const PATIENCE = 10;  // seconds for an answer
const TRIES = 3;  // after which the solution opens

const keep = {
  get: (name) => { try { return localStorage.getItem(name); } catch { return null; } },
  set: (name, value) => {  // whether it is kept
    try { value === null ? localStorage.removeItem(name) : localStorage.setItem(name, value); return true; } catch { return false; }
  },
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

const here = new URL(".", import.meta.url).href;
let source;  // of the worker, kept so that it starts again without the network
const fetchSource = async () => {
  const address = here + WORKER;
  let answer = await fetch(address, { cache: "force-cache" });
  if (!answer.ok) answer = await fetch(address, { cache: "reload" });
  if (!answer.ok) throw new Error(`${WORKER} did not come (status ${answer.status})`);
  return URL.createObjectURL(await answer.blob());
};

let worker;  // while there is one: the cells that it has run, and what it is asked at the moment
const startWorker = () => {
  const one = { ran: new Set(), listen: () => {}, isReady: false };
  one.ready = new Promise((resolve, reject) => {
    one.end = (reason) => { one.process?.terminate(); one.ended = true; reject(reason); one.refuse?.(reason); };
    const begin = async () => {
      source ??= await fetchSource();
      if (one.ended) return;
      one.process = new Worker(source, { type: "module" });
      one.process.onmessage = ({ data }) => {
        if (data.ready) { one.isReady = true; resolve(); }
        else if (data.failed) endWorker(new Error(data.failed));
        else one.listen(data);
      };
      one.process.onerror = (event) => { event.preventDefault(); endWorker(new Error(event.message || "its worker did not start")); };
      one.process.postMessage({ here });
    };
    begin().catch((error) => endWorker(error));
  });
  one.ready.catch(() => {});  // it is told where it is awaited
  return one;
};
const endWorker = (reason) => {
  const one = worker;
  worker = undefined;
  one?.end(reason);
};

const ask = (one, code, name) => new Promise((resolve, reject) => {
  const patience = setTimeout(() => endWorker(new Stopped(`There was no answer within ${PATIENCE} seconds, so Python was stopped. Is there a loop without an end?`)), PATIENCE * 1000);
  one.refuse = (reason) => { clearTimeout(patience); reject(reason); };
  one.listen = ({ result }) => { clearTimeout(patience); one.refuse = undefined; resolve(result); };
  one.process.postMessage({ code, name });
});

const runPython = async (place, tell) => {
  const one = worker ??= startWorker();
  one.listen = tell;
  await one.ready;
  tell({ running: true });
  // The names of the chapter's cells above must be there, as in a notebook.
  for (const cell of places.slice(0, places.indexOf(place)).filter((other) => other.cell && !one.ran.has(other))) {
    const { error, traceback } = await ask(one, cell.last, cell.name);
    if (error) return { output: "", checks: [], error: `A cell above failed. ${error}`, traceback };
    one.ran.add(cell);
  }
  const result = await ask(one, place.text, place.name);
  if (place.cell && !result.error) { place.last = place.text; one.ran.add(place); }
  return result;
};

// --- a place ----------------------------------------------------------------------------------------------------------

// A link's code with its length, by which one that was cut is known.
const encode = (text) => {
  const bytes = Array.from(new TextEncoder().encode(text), (one) => String.fromCharCode(one)).join("");
  return `${text.length}.${btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
};
const decode = (text) => {
  const [length, code] = text.split(".");
  const bytes = Uint8Array.from(atob(code.replaceAll("-", "+").replaceAll("_", "/")), (one) => one.charCodeAt(0));
  const found = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  if (found.length !== Number(length)) throw new RangeError("the link was cut");
  return found;
};
const MEGABYTES = (BYTES / 1e6).toFixed(0);
const NEEDED = "Python on the page needs a browser of 2023 or later (Chrome 111, Firefox 114, Safari 16.4).";
const able = () => typeof Worker === "function" && typeof WebAssembly === "object" && typeof DecompressionStream === "function";

let places = [];
let busy = false;

const setUp = (root) => {
  const { id } = root.dataset;
  const cell = root.matches(".bn-code-cell");
  const shown = cell ? root.previousElementSibling.querySelector(".highlight pre") : root.querySelector("pre");
  const name = cell ? id.replace("-", " ") : root.closest(".exercise").querySelector(".admonition-title").textContent.trim().replace(/\s+/g, " ");
  const stub = shown.textContent.replace(/\n+$/, "");
  const place = { root, id, name, cell, text: stub, last: stub, checks: (root.dataset.checks ?? "").split(" ").filter(Boolean) };
  const draft = `bn-draft-${id}`, mine = `bn-mine-${id}`, tries = `bn-tries-${id}`;
  if (!cell) place.text = keep.get(draft) || stub;

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
  const reset = button("Reset", "Bring back what stood here first", () => {
    write(stub);
    keep.set(draft, null);
    [place.last] = [stub, worker?.ran.delete(place)];
    say("As it was at first.");
  });
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
  // Beside the code of a link, the reader's own.
  const own = button("Your draft", "Bring back what you had written here", () => {
    write(keep.get(mine));
    keep.set(draft, place.text);
    keep.set(mine, null);
    own.hidden = true;
    say("Your draft, as it was.");
  });
  if (!cell) make(root, "p", { class: "bn-code-keys" }, `np and check are imported. The first run fetches Python from this site, ${MEGABYTES} MB; your code stays in this browser.`);
  reset.hidden = copy.hidden = cell;  // a cell's page is not for writing
  own.hidden = cell || keep.get(mine) === null;
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
        change: (text) => {
          place.text = text;
          if (!cell && !keep.set(draft, text === stub ? null : text)) say("This browser keeps no drafts: copy what you want to keep.");
        },
      });
      change.hidden = true;
      make(root, "p", { class: "bn-code-keys bn-for-keys" }, "Ctrl+Enter runs; Tab indents; Escape, then Tab, leaves the editor.");
      root.insertBefore(root.lastChild, sentence);
    } catch {
      say("The editor could not be fetched. Is there a connection? If so, load the page again.", "bad");
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
      const text = `Python is being fetched: ${MEGABYTES} MB.`;
      if (sentence.textContent !== text) say(text);  // the bar moves; the sentence is said once
    } else if (starting || running) {
      bytes.hidden = true;
      say(starting ? "Python is starting." : "Running.");
    }
  };
  const failure = (error) => {
    if (error instanceof Stopped) return error.message;
    return `Python could not be started: ${error.message}. ${navigator.onLine ? `Load the page again. ${NEEDED}` : "There is no connection."}`;
  };
  const start = async () => {
    if (busy) return;
    details.replaceChildren();
    if (!able()) { say(NEEDED, "bad"); return; }
    busy = true;
    for (const one of places) one.run.setAttribute("aria-disabled", "true");  // not disabled, lest the focus be lost
    stop.hidden = false;
    say(worker?.isReady ? "Running." : "Python is starting.");
    let result;
    try {
      result = await runPython(place, tell);
    } catch (error) {
      say(failure(error), "bad");
    }
    busy = false;
    if (document.activeElement === stop) run.focus();
    bytes.hidden = stop.hidden = true;
    for (const one of places) one.run.setAttribute("aria-disabled", "false");
    if (result) show(result);
  };

  const show = ({ output, checks, error, traceback }) => {
    const tried = place.checks.some((name) => checks.some((one) => one.exercise === name));
    const passed = (name) => checks.some((one) => one.exercise === name && one.right);
    const right = !error && checks.length > 0 && (tried ? place.checks.every(passed) : checks.every((one) => one.right));
    if (error) say(error, "bad");
    else if (checks.length) say(checks.map((one) => one.sentence).join(" "), right ? "good" : "bad");
    else say(output ? "It has run." : "It has run, and printed nothing.");
    for (const { exercise, right: good, seen, where, remedies } of checks) {
      if (checks.length > 1 && !good) make(details, "p", {}, `${exercise}:`);
      if (seen.length) {
        const list = make(details, "ul");
        for (const one of seen) make(list, "li", {}, one);
      }
      if (!good) hints([where, remedies.join(" ")].filter(Boolean));
    }
    if (output) make(details, "pre", { class: "bn-code-output", tabindex: "0" }, output);
    if (traceback) make(details, "pre", { class: "bn-code-output", tabindex: "0" }, traceback);
    if (!tried) return;
    const count = Number(keep.get(tries) ?? 0) + 1;
    keep.set(tries, right ? null : String(count));
    if (right) solve(id);
    if (right || count === TRIES) offerSolution();
    mark();
  };
  // First where to look, then how to mend it.
  const hints = (stages) => {
    const one = make(details, "button", { type: "button" }, "Hint");
    const place = make(details, "div", { role: "status" });
    one.addEventListener("click", () => {
      const told = make(place, "p", { tabindex: "-1" }, stages.shift());
      one.textContent = "How to mend it";
      if (stages.length) return;
      one.remove();
      told.focus();  // the button, which had it, is gone
    });
  };
  const offerSolution = () => {
    let solution = root.closest(".exercise")?.nextElementSibling;
    while (solution && !solution.matches(".solution, .exercise")) solution = solution.nextElementSibling;
    if (!solution?.matches(".solution")) return;
    make(make(details, "p"), "a", { href: `#${solution.id}` }, "The solution is open below.");
    if (solution.classList.contains("toggle-hidden")) solution.querySelector(".toggle-button").click();
  };
  const mark = () => root.classList.toggle("bn-is-solved", id in solved());
  // A link's code takes the place of a draft, which waits behind a button.
  const take = () => {
    if (cell || !location.hash.startsWith(`#${id}~`)) return;
    const given = location.hash.slice(id.length + 2);
    history.replaceState(history.state, "", `#${id}`);  // so that a reload shows what was written since
    root.scrollIntoView();
    try {
      const code = decode(given);
      if (keep.get(draft) !== null && keep.get(draft) !== code) {
        keep.set(mine, keep.get(draft));
        own.hidden = false;
      }
      write(code);
      keep.set(draft, code);
      say("This code came with the link.");
    } catch {
      say("This link was cut: its code cannot be read.", "bad");
    }
  };

  root.setAttribute("role", "group");
  root.setAttribute("aria-label", name);
  root.hidden = false;
  mark();
  take();
  return Object.assign(place, { run, take });
};

const setUpAll = () => {
  document.querySelectorAll(".cell.tag_runs-here > .cell_input").forEach((input, index) => {
    const root = Object.assign(document.createElement("div"), { className: "bn-code bn-code-cell noprint", hidden: true });
    root.dataset.id = `cell-${index + 1}`;
    input.after(root);
  });
  places = [...document.querySelectorAll(".bn-code")].map(setUp);
  addEventListener("hashchange", () => places.forEach((one) => one.take()));
};
make(document.head, "link", { rel: "stylesheet", href: here + SHEET }).addEventListener("load", setUpAll);
