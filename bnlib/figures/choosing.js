// Questions one at a time: the answers so far, the question that is open, and at the end what was advised on the way, with
// the claims that it rests on. Questions, answers and where they lead were written in the notebook.

import { counted, figure, make } from "./kit.js";

// The way that answers take (from 1; 0 is none yet) through the questions: those answered, and the one that is open, or null
// at the end, and those still ahead. An answer leads on to the next question, or to those named, one after the other, or is
// the last. Who was sent to some questions is asked no others: of those that a later answer names only these are left.
export const way = (questions, answers) => {
  const answered = [];
  let [open, ahead] = [0, null];
  while (open < questions.length) {
    const answer = questions[open].answers[answers[open] - 1];
    if (!answer) return { answered, open, ahead: ahead ?? questions.map((_, one) => one).slice(open + 1) };
    answered.push([open, answer]);
    if (answer.to === "done") break;
    if (answer.to !== "on") {
      const named = answer.to.split(", ").map((number) => Number(number) - 1);
      ahead = ahead ? named.filter((one) => ahead.includes(one)) : named;
    }
    open = ahead ? (ahead.shift() ?? questions.length) : open + 1;
  }
  return { answered, open: null, ahead: [] };
};

const LINK = /`([^`]+)`|\[([^\]]+)\]\(([^)]+)\)/g;

// Text with the names of claims, which lead to the ledger, code, and links as the notebook has them.
const written = (parent, text) => {
  let at = 0;
  for (const { 0: all, 1: code, 2: words, 3: target, index } of text.matchAll(LINK)) {
    parent.append(text.slice(at, index));
    at = index + all.length;
    if (words) make(parent, "a", { href: target.replace(/\.(ipynb|md)$/, ".html") }, words);
    else make(/^[a-z][a-z-]*$/.test(code) ? make(parent, "a", { href: `ledger.html#claim-${code}` }) : parent, "code", {}, code);
  }
  parent.append(text.slice(at));
};

export const claims = (texts) => [...new Set(texts.flatMap((text) => [...text.matchAll(/`([a-z][a-z-]*)`/g)].map((found) => found[1])))];

export default {
  render({ model, el }) {
    const questions = model.get("questions");
    const rounded = (answers) => answers.map(Math.round);

    const { body, write, read, close } = figure({
      model,
      el,
      moves: { answers: [0, Math.max(...questions.map(({ answers }) => answers.length))] },
      draw: ({ answers }) => {
        const { answered, open, ahead: later } = way(questions, rounded(answers));
        const advice = answered.map(([, answer]) => answer.advice).filter(Boolean);
        show(answered, open, later, advice);
        const so = `${counted(answered.length, "question")} answered`;
        if (open !== null) return `${so}, now question ${open + 1} of ${questions.length}.`;
        return `${so}. The advice rests on ${counted(claims(advice).length, "claim")} of the ledger.`;
      },
    });
    const flow = make(body, "div", { class: "bn-flow" });
    const past = make(flow, "ol");
    const now = make(flow, "div", { tabindex: -1 });
    const ahead = make(flow, "ol", { class: "bn-name" });

    // An answer goes on from a question; 0 takes the question's answer back, and those behind it.
    const answer = (question, number) => {
      const { answered } = way(questions, rounded(read().answers));
      const before = answered.map(([one]) => one).filter((one) => one !== question && (number || one < question));
      write({ answers: questions.map((_, one) => (one === question ? number : before.includes(one) ? read().answers[one] : 0)) });
      now.focus({ preventScroll: true });
    };

    const show = (answered, open, later, advice) => {
      past.replaceChildren();
      now.replaceChildren();
      ahead.replaceChildren();
      for (const [question, { label }] of answered) {
        const button = make(make(past, "li", { value: question + 1 }), "button", { type: "button", title: "Answer this anew" }, `${questions[question].ask} `);
        make(button, "b", {}, label);
        button.addEventListener("click", () => answer(question, 0));
      }
      if (open === null) {
        make(now, "p", { class: "bn-strong" }, "What to take");
        for (const text of advice) written(make(make(now, "ul"), "li"), text);
        make(now, "button", { type: "button" }, "start again").addEventListener("click", () => answer(answered[0][0], 0));
        return;
      }
      const { ask, hint, answers } = questions[open];
      make(now, "p", { class: "bn-strong" }, `${open + 1}. ${ask}`);
      if (hint) make(now, "p", {}, hint);
      const choice = make(now, "div", { role: "group", "aria-label": ask });
      for (const [i, { label }] of answers.entries()) make(choice, "button", { type: "button" }, label).addEventListener("click", () => answer(open, i + 1));
      for (const one of later) make(ahead, "li", { value: one + 1 }, questions[one].ask);
    };
    return close;
  },
};
