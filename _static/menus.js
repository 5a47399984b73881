// What the theme takes Bootstrap's 81 kB for: the menus and the tips of its buttons, and the way back to the top.

// A menu opens and closes with its button. Escape and a click elsewhere close it, arrow keys go through it.
for (const button of document.querySelectorAll('[data-bs-toggle="dropdown"]')) {
  const around = button.parentElement;
  const menu = around.querySelector(".dropdown-menu");
  const items = [...menu.querySelectorAll(".dropdown-item")];
  const isOpen = () => button.classList.contains("show");
  const set = (open) => {
    for (const { classList } of [button, menu]) classList.toggle("show", open);
    button.setAttribute("aria-expanded", open);
  };
  button.addEventListener("click", () => set(!isOpen()));
  document.addEventListener("click", ({ target }) => around.contains(target) || set(false));
  around.addEventListener("focusout", ({ relatedTarget }) => relatedTarget && !around.contains(relatedTarget) && set(false));
  around.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && isOpen()) {
      set(false);
      button.focus();
    } else if (["ArrowDown", "ArrowUp"].includes(event.key)) {
      event.preventDefault();
      set(true);
      const place = items.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
      items[Math.min(Math.max(place, 0), items.length - 1)].focus();
    }
  });
}

// A tip says what a button does, to the mouse and to the keyboard, which the browser's own tips leave out.
const tip = document.createElement("div");
tip.className = "bn-tip";
tip.popover = "manual";  // above everything, dialogs too
document.body.append(tip);
let waiting;
const hideTip = () => {
  clearTimeout(waiting);
  tip.hidePopover();
};
for (const button of document.querySelectorAll('[data-bs-toggle="tooltip"]')) {
  const words = button.title || button.dataset.bsTitle;
  if (!button.ariaLabel && !button.innerText.trim()) button.ariaLabel = words;
  button.removeAttribute("title");
  const show = (delay) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      tip.textContent = words;
      tip.showPopover();
      const { left, right, top, bottom, width, height } = button.getBoundingClientRect();
      const beside = button.dataset.bsPlacement === "left";
      const x = beside ? left - tip.offsetWidth - 6 : left + (width - tip.offsetWidth) / 2;
      const y = beside ? top + (height - tip.offsetHeight) / 2 : bottom + 6;
      tip.style.left = `${Math.max(4, Math.min(x, document.documentElement.clientWidth - tip.offsetWidth - 4))}px`;
      tip.style.top = `${y}px`;
    }, delay);
  };
  button.addEventListener("pointerenter", ({ pointerType }) => pointerType === "mouse" && show(500));
  button.addEventListener("focus", () => button.matches(":focus-visible") && show(0));
  for (const end of ["pointerleave", "blur", "click"]) button.addEventListener(end, hideTip);
}
document.addEventListener("keydown", ({ key }) => key === "Escape" && hideTip());

// On a small screen the way back to the top is offered to those who scroll up.
const toTop = document.getElementById("pst-back-to-top");
if (toTop) {
  let before = scrollY;
  addEventListener("scroll", () => {
    toTop.style.display = scrollY < before && scrollY > 0 ? "block" : "none";
    before = scrollY;
  }, { passive: true });
  toTop.addEventListener("click", () => scrollTo(0, 0));
}
