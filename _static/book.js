// What is wider than the page scrolls inside itself. The keyboard must reach it then, and pass it by otherwise. The
// theme sees to it when a page loads; an observer sees, besides, what is unfolded later.
const observer = new ResizeObserver((entries) => {
  for (const { target } of entries) target.tabIndex = target.scrollWidth > target.clientWidth ? 0 : -1;
});
for (const element of document.querySelectorAll("pre, .math-scroll, .output.text_html")) observer.observe(element);
