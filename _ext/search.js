// What the search knows of words, and how it ranks. The build makes the index with these lines, the browser asks with
// them; MiniSearch and the stemmer come before them in the same file.
const bookSearch = (() => {
  const FIELDS = ["title", "also", "path", "text", "code"];
  const BOOST = { title: 3, also: 1.5, path: 0.7, text: 1, code: 0.6 };
  const BESIDE = 0.5;
  // An answer stands in the text rather than in an exercise, a function, a cited paper or the notation's tables.
  const WEIGHTS = { exercise: 0.6, function: 0.6, source: 0.6, symbols: 0.6 };
  const NO_NEWS = new Set(
    ("a about an and are as at be but by can do does for from get got had has have how i if in into is it its me " +
      "my no not of on or our s so such t than that the their then there these they this to use used using versus vs " +
      "was we were what when where which why will with you your").split(" "),
  );
  const GREEK = Object.fromEntries(
    "αalpha βbeta γgamma δdelta εepsilon ϵepsilon ηeta κkappa λlambda μmu µmu νnu ρrho σsigma τtau φphi χchi ωomega"
      .split(" ").map((pair) => [pair[0], pair.slice(1)]),
  );
  // Spellings of both sides of the Atlantic are one: centred and centered, colour and color, grey and gray.
  const spelt = (word) => word
    .replace(/is(e|es|ed|er|ers|ing|ations?)$/, "iz$1")
    .replace(/cent(?:er|re?)(s|d|ed|ing|)$/, "center$1").replace(/centerd$/, "centered")
    .replace(/(behavi|col|fav|neighb)our/, "$1or").replace(/(lab|mod)ell(ed|ing)$/, "$1el$2").replace(/^grey/, "gray");

  // Where the stemmer takes two words of ours for one: normalization and the normal distribution, transformer and transform.
  const stem = (word) => {
    if (/^normali[sz]/.test(word)) return "norm";
    return word.startsWith("transformer") ? "transformer" : stemmer.stemWord(word);
  };
  const stemmer = new Stemmer();

  // BatchNorm2d and batch_norm are found by their parts and as one word; σ² is a σ, and a norm is a normalization.
  function words(text) {
    const found = [];
    for (const [word] of text.matchAll(/[\p{L}\p{Nd}_]+(?:\.\d+)?/gu)) {
      if (/^[a-z]+$/.test(word)) {
        found.push(word);
        continue;
      }
      const parts = word
        .replace(/(\p{Ll}|\d)(\p{Lu})|(\p{Lu})(\p{Lu}\p{Ll})|(\p{Ll})([123]d$)/gu, "$1$3$5 $2$4$6")
        .split(/[ _]+/)
        .filter(Boolean);
      found.push(...parts);
      if (parts.length > 1) found.push(parts.join(""));
    }
    return found;
  }

  const terms = new Map();
  function term(word) {
    if (!terms.has(word)) {
      const lower = spelt(GREEK[word] ?? word.toLowerCase());
      if (/^\d+\.\d{3,}$/.test(lower)) terms.set(word, null); // a measured number, which nobody types
      else if (NO_NEWS.has(lower)) terms.set(word, /^[A-Z]{2,}$/.test(word) ? word : null); // IN is instance norm
      else terms.set(word, /^[a-z]{3,}$/.test(lower) ? stem(lower) : lower);
    }
    return terms.get(word);
  }

  const OPTIONS = { fields: FIELDS, tokenize: words, processTerm: term };
  let engine, book;

  // How many entries have the word.
  const counts = new Map();
  const AS_IT_IS = { tokenize: (text) => [text], processTerm: (text) => text };
  function count(word) {
    if (!counts.has(word)) counts.set(word, word ? engine.search(word, AS_IT_IS).length : 0);
    return counts.get(word);
  }

  // "batchnorm" is "batch norm", too, since the book has both words; of a long word that it does not have, the stem's
  // neighbours are looked for as well, since a slip near the end keeps the stem from being found.
  function asked(query) {
    return words(query).flatMap((word) => {
      if (count(term(word)) > 50) return [word]; // a word of the book's own, such as centred, no cent and red
      for (let cut = 3; cut <= word.length - 3 && word === word.toLowerCase(); cut++) {
        const halves = [word.slice(0, cut), word.slice(cut)];
        if (halves.every((half) => count(term(half)) > 2)) return [word, ...halves];
      }
      if (word.length > 8 && !count(term(word))) return [word, word.slice(0, Math.ceil(word.length / 2))];
      return [word];
    });
  }

  // How much a word tells: "batch" and "norm" are in most titles of this book, and tell little.
  function told(word) {
    return Math.max(0.05, (1 - Math.log(Math.max(1, count(word))) / Math.log(book.entries.length)) ** 1.5);
  }

  function pairs(text) {
    const known = words(text).map(term).filter(Boolean);
    return known.slice(1).map((word, place) => [known[place], word]);
  }

  // What has two words of the question side by side is more likely meant.
  function together(query, entry) {
    const there = new Set(pairs([...entry.titles, entry.text].join(" ")).map(String));
    return pairs(query).reduce((sum, pair) => sum + (there.has(String(pair)) ? told(pair[0]) + told(pair[1]) : 0), 0);
  }

  return {
    term,
    words,

    // For the build: everything but the code's text, which is looked for and never shown.
    index({ pages, entries }) {
      engine = new MiniSearch(OPTIONS);
      entries.forEach(({ page, titles, text, code, also }, id) => {
        const path = [pages[page].title, ...titles];
        engine.add({ id, title: path.pop(), path: path.join(" "), text, code, also });
      });
      return { pages, entries: entries.map(({ code, also, ...shown }) => shown), index: engine };
    },

    load(data) {
      book = data;
      engine = MiniSearch.loadJS(data.index, OPTIONS);
    },

    get loaded() {
      return Boolean(book);
    },

    // The best entries: page, titles, address, text, and the words by which each was found. Of a pasted traceback the
    // message is looked for, which is the last thing that it says.
    ask(query, limit = 12) {
      query = query.replace(/^Traceback .*\b\w+(Error|Exception|Warning): /s, "").slice(0, 300);
      const found = engine.search(query, {
        boost: BOOST,
        tokenize: asked,
        prefix: (word, place, all) => word.length > 1 && (place === all.length - 1 || !count(word)),
        fuzzy: (word) => (word.length > 4 && !count(word) ? 0.2 : false),
        weights: { prefix: 0.3, fuzzy: 0.2 },
        boostTerm: told,
        boostDocument: (id) => WEIGHTS[book.entries[id].kind] ?? 1,
      });
      const best = found.slice(0, 30).map(({ id, terms, score }) => {
        return { id, terms, score: score * (1 + BESIDE * together(query, book.entries[id])) };
      });
      best.sort((one, other) => other.score - one.score);
      return best.slice(0, limit).map(({ id, terms }) => {
        const { page, titles, anchor, text } = book.entries[id];
        const { address, title } = book.pages[page];
        const at = titles.length ? `${address}#${anchor}` : address;
        return { address: at, titles: [title, ...titles], text, terms: new Set(terms) };
      });
    },
  };
})();
