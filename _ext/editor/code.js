// The editor itself, which comes when a reader wants to write: CodeMirror with Python's colours and indentation.
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { python } from "@codemirror/lang-python";
import { bracketMatching, HighlightStyle, indentOnInput, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { EditorState } from "@codemirror/state";
import { EditorView, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";

// The colours are variables of editor.css, which follow the page's theme.
const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.self], color: "var(--bn-keyword)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--bn-string)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--bn-number)" },
  { tag: tags.comment, color: "var(--bn-comment)", fontStyle: "italic" },
  { tag: [tags.function(tags.definition(tags.variableName)), tags.definition(tags.className)], color: "var(--bn-name)" },
]);

const WAY_OUT = 10_000;  // ms behind Escape in which Tab leaves the editor

export const edit = ({ parent, text, label, change, run }) => {
  const keys = [
    ...["Ctrl-Enter", "Cmd-Enter", "Shift-Enter"].map((key) => ({ key, run: () => { run(); return true; } })),
    { key: "Escape", run: (view) => { view.setTabFocusMode(WAY_OUT); return false; } },
  ];
  const view = new EditorView({
    parent,
    state: EditorState.create({
      doc: text,
      extensions: [
        keymap.of(keys), lineNumbers(), EditorView.lineWrapping, history(), bracketMatching(), indentOnInput(), indentUnit.of("    "), python(),
        syntaxHighlighting(colours), keymap.of([...defaultKeymap, ...historyKeymap, indentWithTab]),
        EditorView.contentAttributes.of({ "aria-label": label, autocapitalize: "off", autocorrect: "off", spellcheck: "false" }),
        EditorView.updateListener.of((update) => update.docChanged && change(update.state.doc.toString())),
      ],
    }),
  });
  return {
    focus: () => view.focus(),
    set: (value) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: value } }),
  };
};
