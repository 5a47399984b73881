// Reads the book's sections and puts out what the browser loads. Called by search.py with the engine's file.
import { readFileSync } from "node:fs";
import { runInThisContext } from "node:vm";

runInThisContext(readFileSync(process.argv[2], "utf-8"));
const data = JSON.stringify(bookSearch.index(JSON.parse(readFileSync(0, "utf-8"))));
process.stdout.write(`bookSearch.load(${data});\n`);
