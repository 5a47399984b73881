// What is wider than the page scrolls inside itself. The keyboard must reach it then, and pass it by otherwise. The
// theme sees to it when a page loads; an observer sees, besides, what is unfolded later.
const observer = new ResizeObserver((entries) => {
  for (const { target } of entries) target.tabIndex = target.scrollWidth > target.clientWidth ? 0 : -1;
});
for (const element of document.querySelectorAll("pre, .math-scroll, .output.text_html")) observer.observe(element);

// Paper is light, and its folds are open, whatever the reader chose; afterwards it is as it was. Closed code stays out.
// A formula's width in em lets the styles shrink one that is wider than the paper, whose width no script knows.
addEventListener("beforeprint", () => {
  const { dataset } = document.documentElement;
  const { theme } = dataset;
  dataset.theme = "light";
  const closed = [...document.querySelectorAll("details:not([open], .above-input)")];
  for (const details of closed) details.open = true;
  for (const formula of document.querySelectorAll(".math-scroll > math")) {
    const em = parseFloat(getComputedStyle(formula).fontSize);
    formula.style.setProperty("--width-em", formula.getBoundingClientRect().width / em);
  }
  addEventListener("afterprint", () => {
    dataset.theme = theme;
    for (const details of closed) details.open = false;
  }, { once: true });
});
