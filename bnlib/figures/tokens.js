// What a prediction depends on: a grid of sequences and positions. The reader chooses a place and a norm; the places that
// share statistics with it are ringed, and those that its prediction depends on filled. Both were computed in the notebook.
// A module of anywidget's form.

const make = (parent, tag, attributes = {}, text = "") => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return parent.appendChild(element);
};
const counted = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

export default {
  render({ model, el }) {
    // seen: of each norm and of each chosen place a string of 0 and 1, a digit for each place in the grid, row by row.
    const { lengths, positions, seen, shares } = Object.fromEntries(["lengths", "positions", "seen", "shares"].map((name) => [name, model.get(name)]));
    const places = lengths.flatMap((length, n) => Array.from({ length: positions }, (_, t) => ({ n, t, padding: t >= length })));

    const grid = make(el, "div", { class: "bn-tokens", role: "group", "aria-label": "Sequences and their positions" });
    grid.style.setProperty("--columns", positions);
    const choose = (place, done = true) => {
      model.set("chosen", place);
      draw();
      if (done) model.save_changes();
    };
    const cells = places.map(({ n, t, padding }, place) => {
      const cell = make(grid, "button", { type: "button", "aria-label": `Sequence ${n + 1}, position ${t + 1}${padding ? ", padding" : ""}` }, padding ? "–" : "");
      cell.classList.toggle("bn-padding", padding);
      cell.addEventListener("click", () => choose(place));
      cell.addEventListener("keydown", (event) => {
        const [down, right] = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key] ?? [0, 0];
        if (!(down || right)) return;
        event.preventDefault();
        const [row, column] = [n + down, t + right];
        if (row < 0 || row >= lengths.length || column < 0 || column >= positions) return;
        const next = row * positions + column;
        choose(next);
        cells[next].focus();
      });
      return cell;
    });
    const controls = make(el, "div", { class: "bn-controls" });
    const group = make(controls, "div", { role: "group", "aria-label": "Norm" });
    const norms = Object.keys(seen).map((norm) => {
      const button = make(group, "button", { type: "button" }, `${norm} norm`);
      button.addEventListener("click", () => {
        model.set("norm", norm);
        draw();
        model.save_changes();
      });
      return { norm, button };
    });
    const words = make(el, "p", { class: "bn-words", role: "status" });

    const draw = () => {
      const [chosen, norm] = [Math.min(places.length - 1, Math.max(0, Math.round(model.get("chosen")))), model.get("norm") in seen ? model.get("norm") : Object.keys(seen)[0]];
      const [fills, rings] = [seen[norm][chosen], shares[norm][chosen]];
      cells.forEach((cell, place) => {
        cell.classList.toggle("bn-seen", fills[place] === "1");
        cell.classList.toggle("bn-shares", rings[place] === "1");
        cell.setAttribute("aria-pressed", place === chosen);
        cell.tabIndex = place === chosen ? 0 : -1;
      });
      for (const one of norms) one.button.setAttribute("aria-pressed", one.norm === norm);
      const { n, t } = places[chosen];
      const of = (test) => places.filter((place, i) => fills[i] === "1" && test(place)).length;
      const ringed = [...rings].filter((digit) => digit === "1").length;
      words.textContent = `With ${norm} norm, in training, position ${t + 1} of sequence ${n + 1} shares its statistics with `
        + `${counted(ringed - 1, "other place")}. Its prediction depends on ${counted(of(() => true), "place")}: `
        + `${of((p) => p.n === n && p.t > t)} of its own future, ${of((p) => p.n !== n)} of other sequences, ${of((p) => p.padding)} of padding.`;
    };
    for (const name of ["chosen", "norm"]) model.on(`change:${name}`, draw);
    draw();
  },
};
