// Joins the page's script, the editor and Python's worker with what they import, each under a name that holds its hash.
// Reads { out, define } from stdin; prints { page, packages }: the name of
// the page's script, and what from npm is in these files.
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { build } from "esbuild";

const { out, define } = JSON.parse(readFileSync(0, "utf-8"));
const here = new URL(".", import.meta.url).pathname;
const options = {
  bundle: true, minify: true, format: "esm", target: "es2022", outdir: out, metafile: true, legalComments: "none",
  entryNames: "[name]-[hash]", chunkNames: "[name]-[hash]", logLevel: "error",
};
const named = ({ metafile }, name) =>
  basename(Object.entries(metafile.outputs).find(([, { entryPoint }]) => entryPoint?.endsWith(`/${name}`))[0]);
const worker = await build({
  ...options, entryPoints: [`${here}worker.js`], external: ["node:*", "ws"], supported: { "dynamic-import": true },
  define: Object.fromEntries(Object.entries(define).map(([name, value]) => [name, JSON.stringify(value)])),
});
const page = await build({
  ...options, entryPoints: [`${here}page.js`], splitting: true,
  define: {
    WORKER: JSON.stringify(named(worker, "worker.js")),
    SHEET: JSON.stringify(define.SHEET),
    BYTES: String(define.FILES.map(([, size]) => size).reduce((a, b) => a + b)),
  },
});
const inputs = [worker, page].flatMap(({ metafile }) => Object.keys(metafile.inputs));
const packages = new Set(inputs.map((path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\//)?.[1]).filter((name) => name && name !== "pyodide"));
process.stdout.write(JSON.stringify({ page: named(page, "page.js"), packages: [...packages].sort() }));
