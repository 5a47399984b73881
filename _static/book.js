// What is wider than the page scrolls inside itself. The keyboard must reach it then, and pass it by otherwise. The
// theme sees to it when a page loads; an observer sees, besides, what is unfolded later.
const observer = new ResizeObserver((entries) => {
  for (const { target } of entries) target.tabIndex = target.scrollWidth > target.clientWidth ? 0 : -1;
});
for (const element of document.querySelectorAll("pre, .math-scroll, .output.text_html")) observer.observe(element);

// The search comes when a reader opens it: by a button, by Ctrl-K (on a Mac Cmd-K), or by "/".
{
  const root = document.documentElement.dataset.content_root;
  const fetchSearch = () => {
    const [first] = ["search.js", "sections.js"].map((name) => {
      const script = Object.assign(document.createElement("script"), { src: `${root}_static/search/${name}`, async: false });
      return document.head.appendChild(script);
    });
    return new Promise((resolve) => first.addEventListener("load", resolve));
  };
  let search;
  const open = (event) => {
    event.preventDefault();
    search ??= typeof bookSearch === "undefined" ? fetchSearch() : Promise.resolve();
    search.then(() => bookSearch.open());
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest?.(".search-button__button, .bn-search-open")) open(event);
  });
  document.addEventListener("keydown", (event) => {
    const { key, ctrlKey, metaKey, altKey, shiftKey, target } = event;
    const typing = target.closest?.("input, textarea, select, [contenteditable]");
    if ((key.toLowerCase() === "k" && ctrlKey !== metaKey && !altKey && !shiftKey) || (key === "/" && !ctrlKey && !metaKey && !altKey && !typing)) open(event);
  });
}
