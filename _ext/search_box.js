// The box in which one types, and the list of what is found: in a dialog on every page, and on the search page.
if (typeof document !== "undefined") {
  const root = document.documentElement.dataset.content_root;

  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  // The text with the words that were found, marked.
  function marked(text, terms) {
    const isFound = (word) => bookSearch.words(word).some((part) => terms.has(bookSearch.term(part)));
    return text.split(/([\p{L}\p{N}_]+(?:\.\d+)?)/u).map((part, place) => (place % 2 && isFound(part) ? element("mark", {}, part) : part));
  }

  // The part of a text in which most of the words stand.
  function snippet(text, terms, length = 170) {
    if (text.length <= length) return marked(text, terms);
    const places = [...text.matchAll(/[\p{L}\p{N}_]+(?:\.\d+)?/gu)].flatMap(({ 0: word, index }) =>
      bookSearch.words(word).map(bookSearch.term).filter((term) => terms.has(term)).map((term) => ({ index, term })),
    );
    let start = 0, most = 0;
    places.forEach(({ index }, first) => {
      const near = new Set();
      for (let at = first; at < places.length && places[at].index < index + length - 30; at++) near.add(places[at].term);
      if (near.size > most) [start, most] = [index, near.size];
    });
    // From the sentence's beginning, if that is near.
    const before = text.slice(Math.max(0, start - 60), start);
    const sentence = Math.max(before.lastIndexOf(". "), before.lastIndexOf("? "));
    start = start <= 60 ? 0 : start - (sentence >= 0 ? before.length - sentence - 2 : 0);
    const end = text.lastIndexOf(" ", start + length);
    return [start ? "… " : "", ...marked(text.slice(start, end), terms), " …"];
  }

  function result({ address, titles, text, terms }) {
    const path = titles.slice(0, -1).flatMap((title) => [...marked(title, terms), element("span", { className: "bn-search-into" }, " › ")]);
    const link = element("a", { href: root + address },
      element("span", { className: "bn-search-path" }, ...path),
      element("span", { className: "bn-search-title" }, ...marked(titles.at(-1), terms)),
      element("span", { className: "bn-search-text" }, ...snippet(text, terms)),
    );
    return element("li", {}, link);
  }

  class Box {
    constructor(place, { onSearch = () => {} } = {}) {
      this.input = element("input", {
        type: "text", enterKeyHint: "search", name: "q", placeholder: "Search this book", autocomplete: "off", spellcheck: false, ariaLabel: "Search this book",
      });
      this.input.setAttribute("autocapitalize", "off");
      this.status = element("p", { className: "bn-search-status", role: "status" });
      this.list = element("ul", { className: "bn-search-results" });
      this.form = element("form", { className: "bn-search-form", action: `${root}search.html` },
        element("i", { className: "fa-solid fa-magnifying-glass", ariaHidden: "true" }), this.input);
      this.form.setAttribute("role", "search");
      this.onSearch = onSearch;
      place.append(this.form, this.status, this.list);
      this.input.addEventListener("input", () => this.search());
      this.form.addEventListener("submit", (event) => {
        event.preventDefault();
        this.links[0]?.click();
      });
      place.addEventListener("keydown", (event) => this.move(event));
      this.search();
    }

    get links() {
      return [...this.list.querySelectorAll("a")];
    }

    // Up and down go through the results, and from the first one back to what was typed.
    move(event) {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
      const stops = [this.input, ...this.links];
      const next = stops[stops.indexOf(document.activeElement) + step];
      event.preventDefault();
      next?.focus();
    }

    search() {
      const query = this.input.value.trim();
      this.onSearch(query);
      if (!bookSearch.loaded) {
        this.status.textContent = "The index is being fetched.";
        return;
      }
      const found = query ? bookSearch.ask(query) : [];
      this.list.replaceChildren(...found.map(result));
      this.list.scrollTop = 0;
      if (!query) this.status.textContent = "A question, a symptom, an error message, the name of a layer or a formula.";
      else if (found.length) this.status.textContent = found.length === 1 ? "1 result" : `${found.length} results, the best first`;
      else {
        const notation = element("a", { href: `${root}chapters/notation.html` }, "notation");
        this.status.replaceChildren(`Nothing found for “${query}”. Try another word for it, or fewer; the `, notation, " lists the book’s terms.");
      }
    }
  }

  const boxes = [];

  let dialog;
  bookSearch.open = () => {
    if (!dialog) {
      dialog = element("dialog", { className: "bn-search", ariaLabel: "Search" });
      const close = element("button", { type: "button", className: "bn-search-close", ariaLabel: "Close" }, "×");
      close.addEventListener("click", () => dialog.close());
      // Outside the box is the dialog itself; its content fills it.
      dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
      const inside = element("div", { className: "bn-search-inside" });
      dialog.append(inside);
      document.body.append(dialog);
      const box = new Box(inside);
      box.form.append(close);
      // A link into the same page leaves the page as it is.
      box.list.addEventListener("click", ({ target }) => target.closest("a") && dialog.close());
      boxes.push(box);
    }
    if (!dialog.open) dialog.showModal();
    dialog.querySelector("input").focus();
    dialog.querySelector("input").select();
  };

  const { load } = bookSearch;
  bookSearch.load = (data) => {
    load(data);
    for (const box of boxes) box.search();
  };

  const page = document.querySelector(".bn-search-page");
  if (page) {
    const asked = new URL(location.href).searchParams.get("q") ?? "";
    const keep = (query) => query && history.replaceState(null, "", `?${new URLSearchParams({ q: query })}`);
    const box = new Box(page, { onSearch: keep });
    boxes.push(box);
    box.input.value = asked;
    box.search();
    bookSearch.open = () => box.input.focus();
  }
}
