// What is wider than the page scrolls inside itself, and says at which sides there is more (book.css shows it). The
// keyboard must reach it then, and pass it by otherwise. The theme sees to it when a page loads; an observer sees,
// besides, what is unfolded later.
const look = (elements) => {
  // Everything is read before anything is written, lest the page be laid out for each element.
  const seen = elements.map((element) => [element, element.scrollLeft, element.scrollWidth - element.clientWidth]);
  for (const [element, left, hidden] of seen) {
    element.dataset.more = [left > 1 && "left", left < hidden - 1 && "right"].filter(Boolean).join(" ");
    // Within a figure's frame there is a button, by which the keyboard gets there.
    if (!element.matches(".bn-figure")) element.tabIndex = hidden > 0 ? 0 : -1;
  }
};
const observer = new ResizeObserver((entries) => look(entries.map(({ target }) => target)));
const scrolling = "pre, .math-scroll, .output.text_html, .pst-scrollable-table-container, .bn-figure";
for (const element of document.querySelectorAll(scrolling)) {
  observer.observe(element);
  element.addEventListener("scroll", () => look([element]), { passive: true });
}

// A figure opens large, at the size it was drawn, in a dialog that scrolls.
const large = document.createElement("dialog");
large.className = "bn-large";
large.innerHTML = '<form method="dialog"><button>Close</button></form><div tabindex="0"></div>';
document.body.append(large);
let opener;
for (const button of document.querySelectorAll(".bn-figure > button")) {
  button.addEventListener("click", () => {
    opener = button;
    const image = button.querySelector("img").cloneNode();
    image.loading = "eager";
    large.ariaLabel = button.closest("figure").querySelector(".caption-number")?.textContent.trim() || "Figure";
    large.lastChild.replaceChildren(image);
    large.showModal();
  });
}
large.addEventListener("close", () => opener.focus());  // not every browser focuses the button that is tapped
large.addEventListener("click", ({ target }) => target === large && large.close());  // that is, beside it

// What a link leads to may stand in a fold, which not every browser opens.
const unfold = () => {
  const target = document.getElementById(location.hash.slice(1));  // ids here are plain letters
  if (!target?.closest("details:not([open])")) return;
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target.scrollIntoView();
};
addEventListener("hashchange", unfold);
unfold();

// A report of an error names the section that the reader is in: the last whose heading stands in the upper third of the
// screen or above it. Without this script it names the page.
for (const link of document.querySelectorAll("a.btn-report-button")) {
  const { href } = link;
  const enterSection = () => {
    const headings = [...document.querySelectorAll("article section[id] > :is(h1, h2, h3, h4)")];
    const heading = headings.findLast((one) => one.getBoundingClientRect().top < innerHeight / 3) ?? headings[0];
    const words = heading.cloneNode(true);
    words.querySelector(".headerlink")?.remove();
    const section = words.textContent.trim();
    const report = new URL(href);
    const { searchParams } = report;
    searchParams.set("body", searchParams.get("body").replace("\nSection: ", (line) => `${line}${section} (#${heading.parentElement.id})`));
    if (heading !== headings[0]) searchParams.set("title", `${searchParams.get("title")}: ${section}`);
    link.href = report;
  };
  for (const press of ["click", "auxclick"]) link.addEventListener(press, enterSection);
}

// The search comes when a reader opens it: by a button, by Ctrl-K (on a Mac Cmd-K), or by "/". The field is there at once
// and keeps what is typed, while the engine and the index are fetched.
{
  const root = document.documentElement.dataset.content_root;
  const addField = (place) => place.insertAdjacentHTML("beforeend", `
    <form class="bn-search-form" role="search">
      <i class="fa-solid fa-magnifying-glass" aria-hidden="true"></i>
      <input type="text" name="q" placeholder="Search this book" aria-label="Search this book" enterkeyhint="search" autocomplete="off" autocapitalize="off" spellcheck="false">
    </form>
    <p class="bn-search-status" role="status"></p>
    <ul class="bn-search-results"></ul>`);
  const fetchScript = (name) => new Promise((resolve, reject) => {
    const script = document.createElement("script");
    document.head.append(Object.assign(script, { src: `${root}_static/search/${name}`, onload: resolve, onerror: reject }));
  });
  let fetching;
  const fetchSearch = async (place) => {
    const status = place.querySelector(".bn-search-status");
    status.textContent = "The index is being fetched.";
    try {
      // What has come is not run twice when the reader tries again.
      if (typeof bookSearch === "undefined") await fetchScript("search.js");
      await fetchScript("sections.js");
    } catch {
      fetching = undefined;
      status.textContent = "The index could not be fetched. Is there a connection? Enter tries again.";
    }
  };
  const setUp = (place) => {
    addField(place);
    place.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      fetching ??= fetchSearch(place);
    });
  };
  const page = document.querySelector(".bn-search-page");
  if (page) {
    setUp(page);
    page.querySelector("input").value = new URL(location.href).searchParams.get("q") ?? "";
    fetching = fetchSearch(page);
  }
  let dialog;
  const makeDialog = () => {
    dialog = Object.assign(document.createElement("dialog"), { className: "bn-search", ariaLabel: "Search" });
    dialog.innerHTML = '<div class="bn-search-inside"></div>';
    setUp(dialog.firstChild);
    const close = Object.assign(document.createElement("button"), { type: "button", className: "bn-search-close", ariaLabel: "Close", textContent: "×" });
    dialog.querySelector("form").append(close);
    // Outside the box is the dialog itself; its content fills it. A link into the same page leaves the page as it is.
    dialog.addEventListener("click", ({ target }) => (target === dialog || target === close || target.closest("a")) && dialog.close());
    document.body.append(dialog);
  };
  const open = (event) => {
    event.preventDefault();
    if (!page) {
      if (!dialog) makeDialog();
      if (!dialog.open) dialog.showModal();
      fetching ??= fetchSearch(dialog.firstChild);
    }
    const field = (page ?? dialog).querySelector("input");
    field.focus();
    field.select();
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest?.(".search-button__button, .bn-search-open")) open(event);
  });
  document.addEventListener("keydown", (event) => {
    const { key, ctrlKey, metaKey, altKey, shiftKey, target } = event;
    const field = target.closest?.("input, textarea, select, [contenteditable]");
    const typing = field && (!dialog?.contains(field) || dialog.open);  // that of a closed box keeps the focus until the next frame
    if ((key.toLowerCase() === "k" && ctrlKey !== metaKey && !altKey && !shiftKey) || (key === "/" && !ctrlKey && !metaKey && !altKey && !typing)) open(event);
  });
}

// Paper is light, and its folds are open, whatever the reader chose; afterwards it is as it was. Closed code stays out,
// but what it puts out, such as a card or a figure, does not.
// A formula's width in em lets the styles shrink one that is wider than the paper, whose width no script knows.
addEventListener("beforeprint", () => {
  const { dataset } = document.documentElement;
  const { theme } = dataset;
  dataset.theme = "light";
  const closed = [...document.querySelectorAll("details:not([open]):is(:not(.above-input), :has(.cell_output))")];
  for (const details of closed) {
    details.open = true;
    details.classList.add("bn-for-paper");
  }
  for (const formula of document.querySelectorAll(".math-scroll > math")) {
    const em = parseFloat(getComputedStyle(formula).fontSize);
    formula.style.setProperty("--width-em", formula.getBoundingClientRect().width / em);
  }
  addEventListener("afterprint", () => {
    dataset.theme = theme;
    for (const details of closed) {
      details.open = false;
      details.classList.remove("bn-for-paper");
    }
  }, { once: true });
});
