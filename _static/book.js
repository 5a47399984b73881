// What is wider than the page scrolls inside itself. The keyboard must reach it then, and pass it by otherwise. The
// theme sees to it when a page loads; an observer sees, besides, what is unfolded later.
const observer = new ResizeObserver((entries) => {
  for (const { target } of entries) target.tabIndex = target.scrollWidth > target.clientWidth ? 0 : -1;
});
for (const element of document.querySelectorAll("pre, .math-scroll, .output.text_html")) observer.observe(element);

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
