// One LaTeX formula a line comes in as JSON, one line of JSON with its MathML or its error goes out.
// Usage: node mathml.mjs '{"\\macro": "its expansion"}'
import { createInterface } from "node:readline";
import temml from "temml";

const macros = JSON.parse(process.argv[2]);

for await (const line of createInterface({ input: process.stdin })) {
  const { tex, display } = JSON.parse(line);
  let answer;
  try {
    const options = { displayMode: display, throwOnError: true, strict: true, wrap: display ? "none" : "tex" };
    // Temml writes \gdef's into the object it is given: every formula gets a fresh one.
    answer = { mathml: temml.renderToString(tex, { ...options, macros: { ...macros } }) };
  } catch (error) {
    answer = { error: error.message };
  }
  console.log(JSON.stringify(answer));
}
