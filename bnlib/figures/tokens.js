// What a prediction depends on: a grid of sequences and positions. The reader chooses a place and a norm; the places that
// share statistics with it are ringed, and those that its prediction depends on filled. Both were computed in the notebook.

import { counted, figure, make } from "./kit.js";

export default {
  render({ model, el }) {
    // seen: of each norm and of each chosen place a string of 0 and 1, a digit for each place in the grid, row by row.
    const { lengths, positions, seen, shares } = Object.fromEntries(["lengths", "positions", "seen", "shares"].map((name) => [name, model.get(name)]));
    const places = lengths.flatMap((length, n) => Array.from({ length: positions }, (_, t) => ({ n, t, padding: t >= length })));
    const cells = [];

    const { body, write, close } = figure({
      model,
      el,
      moves: { chosen: [0, places.length - 1] },
      choices: [{ name: "norm", label: "Norm", options: Object.fromEntries(Object.keys(seen).map((norm) => [norm, `${norm} norm`])) }],
      draw: ({ chosen: place, norm }) => {
        const chosen = Math.round(place);
        const [fills, rings] = [seen[norm][chosen], shares[norm][chosen]];
        cells.forEach((cell, i) => {
          cell.classList.toggle("bn-seen", fills[i] === "1");
          cell.classList.toggle("bn-shares", rings[i] === "1");
          cell.ariaPressed = i === chosen;
          cell.tabIndex = i === chosen ? 0 : -1;
        });
        const { n, t } = places[chosen];
        const of = (test) => places.filter((one, i) => fills[i] === "1" && test(one)).length;
        const ringed = [...rings].filter((digit) => digit === "1").length;
        return `With ${norm} norm, in training, position ${t + 1} of sequence ${n + 1} shares its statistics with `
          + `${counted(ringed - 1, "other place")}. Its prediction depends on ${counted(of(() => true), "place")}: `
          + `${of((p) => p.n === n && p.t > t)} of its own future, ${of((p) => p.n !== n)} of other sequences, ${of((p) => p.padding)} of padding.`;
      },
    });
    const grid = make(body, "div", { class: "bn-tokens", role: "group", "aria-label": "Sequences and their positions" });
    grid.style.setProperty("--columns", positions);
    for (const [place, { n, t, padding }] of places.entries()) {
      const cell = make(grid, "button", { type: "button", "aria-label": `Sequence ${n + 1}, position ${t + 1}${padding ? ", padding" : ""}` }, padding ? "–" : "");
      cells.push(cell);
      cell.classList.toggle("bn-padding", padding);
      cell.addEventListener("click", () => write({ chosen: place }));
      cell.addEventListener("keydown", (event) => {
        const [down, right] = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key] ?? [0, 0];
        if (!(down || right)) return;
        event.preventDefault();
        const [row, column] = [n + down, t + right];
        if (row < 0 || row >= lengths.length || column < 0 || column >= positions) return;
        write({ chosen: row * positions + column });
        cells[row * positions + column].focus();
      });
    }
    return close;
  },
};
