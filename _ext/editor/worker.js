// Python in a worker of its own, so that the page never waits for it and can end it. What it fetches comes from the site
// itself, packed, and is kept by the browser: its names hold a hash, so what is kept is never out of date.
import { loadPyodide } from "pyodide";

// FILES and NUMPY are put in by _ext/editors.py: [name, bytes] of each part, and NumPy's entry of Pyodide's lock file.
const total = FILES.map(([, size]) => size).reduce((a, b) => a + b);
let fetched = 0;
let here;  // the folder of the parts, which the page tells first

const get = async ([name]) => {
  let response = await fetch(here + name, { cache: "force-cache" });
  if (!response.ok) response = await fetch(here + name, { cache: "reload" });  // what was missing once is kept, too
  if (!response.ok) throw new Error(`${name} did not come (status ${response.status})`);
  const parts = [];
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    fetched += value.length;
    postMessage({ fetched, total });
  }
  const blob = new Blob(parts);
  // A server may have unpacked it, if it took the name for that of a packed file.
  const [first, second] = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
  const packed = first === 0x1f && second === 0x8b;
  return packed ? new Response(blob.stream().pipeThrough(new DecompressionStream("gzip"))).blob() : blob;
};

const start = async () => {
  const [core, wasm, library, numpy, ours] = await Promise.all(FILES.map(get));
  postMessage({ starting: true });
  // Pyodide asks for its parts by address; here they are already.
  const parts = new Map([["pyodide.asm.wasm", wasm], ["python_stdlib.zip", library], [NUMPY.file_name, numpy]]);
  const elsewhere = self.fetch;
  self.fetch = (asked, ...more) => {
    const blob = parts.get(String(asked.url ?? asked).split("/").pop());
    return blob ? Promise.resolve(new Response(blob, { headers: { "Content-Type": "application/wasm" } })) : elsewhere(asked, ...more);
  };
  const address = URL.createObjectURL(new Blob([core], { type: "text/javascript" }));
  const { default: createPyodideModule } = await import(address);
  URL.revokeObjectURL(address);
  const python = await loadPyodide({
    indexURL: here,
    createPyodideModule,
    lockFileContents: { info: INFO, packages: { numpy: NUMPY } },
    packageBaseUrl: here,
    env: { PYTHONHASHSEED: "0" },
  });
  await python.loadPackage("numpy", { messageCallback: () => {} });
  // Code that came by a link shall reach nobody.
  for (const way of ["fetch", "XMLHttpRequest", "WebSocket", "EventSource"]) self[way] = undefined;
  python.unpackArchive(await ours.arrayBuffer(), "zip");
  return python.pyimport("cell");
};

let cell;
self.onmessage = async ({ data }) => {
  if (data.here) {
    here = data.here;
    try {
      cell = await start();
      postMessage({ ready: true });
    } catch (error) {
      postMessage({ failed: String(error.message ?? error) });
    }
  } else {
    try {
      postMessage({ result: JSON.parse(cell.run(data.code, data.name)) });
    } catch (error) {
      postMessage({ failed: `it broke down (${String(error.message ?? error).trim().split("\n").pop()})` });
    }
  }
};
