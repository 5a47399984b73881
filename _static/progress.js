// Which coded exercises the reader has solved in this browser, by their labels, and the marks of it in the side bar.
{
  const NAME = "bn-solved";
  const solved = () => {
    try { return JSON.parse(localStorage.getItem(NAME)) ?? {}; } catch { return {}; }
  };
  const mark = () => {
    const names = Object.keys(solved());
    for (const link of document.querySelectorAll(".bd-links a")) {
      const chapter = link.getAttribute("href") === "#" ? location.pathname : link.href;
      const count = names.filter((name) => chapter.split("/").pop().startsWith(`${name.slice(3, 5)}_`)).length;
      link.querySelector(".bn-solved-count")?.remove();
      if (count) {
        const title = `${count} ${count === 1 ? "exercise" : "exercises"} solved`;
        link.append(Object.assign(document.createElement("span"), { className: "bn-solved-count", title, innerHTML: `<span class="visually-hidden">, ${title}</span><span aria-hidden="true">✓${count > 1 ? count : ""}</span>` }));
      }
    }
    for (const place of document.querySelectorAll("[data-solves]")) {
      place.textContent = place.dataset.solves in solved() ? "✓ solved" : "";
    }
  };
  globalThis.bnProgress = {
    solved,
    solve: (name) => {
      try { localStorage.setItem(NAME, JSON.stringify({ ...solved(), [name]: new Date().toISOString().slice(0, 10) })); } catch { /* a browser that keeps nothing */ }
      mark();
    },
  };
  mark();
  for (const button of document.querySelectorAll(".bn-export")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const file = new Blob([JSON.stringify({ solved: solved() }, null, 2)], { type: "application/json" });
      const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: "batch-normalization-progress.json" });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);  // a download may begin late
    });
  }
}
