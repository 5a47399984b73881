// What is found for what is typed. The field, in a dialog or on the search page, is book.js's and may hold a question already.
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
    constructor(place, { onSearch }) {
      [this.input, this.status, this.list] = ["input", ".bn-search-status", ".bn-search-results"].map((part) => place.querySelector(part));
      this.onSearch = onSearch;
      this.input.addEventListener("input", () => this.search());
      place.querySelector("form").addEventListener("submit", () => this.links[0]?.click());
      place.addEventListener("keydown", (event) => this.move(event));
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
      if (!bookSearch.loaded) return;
      const found = query ? bookSearch.ask(query) : [];
      this.list.replaceChildren(...found.map(result));
      this.list.scrollTop = 0;
      if (!query) this.status.textContent = "A question, a symptom, an error message, the name of a layer or a formula.";
      else if (found.length) this.status.textContent = found.length === 1 ? "1 result" : `${found.length} results, the best first`;
      else {
        const notation = element("a", { href: `${root}chapters/notation.html` }, "notation");
        this.status.replaceChildren(`Nothing found for “${query.length > 80 ? `${query.slice(0, 80)} …` : query}”. Try another word for it, or fewer; the `, notation, " lists the book’s terms.");
      }
    }
  }

  const page = document.querySelector(".bn-search-page");
  const keep = (query) => query && history.replaceState(null, "", `?${new URLSearchParams({ q: query })}`);
  const box = new Box(page ?? document.querySelector(".bn-search-inside"), { onSearch: page ? keep : () => {} });

  const { load } = bookSearch;
  bookSearch.load = (data) => {
    load(data);
    box.search();
  };
}
