// Runs the model with LiteRT.js: fetches and checks it, and calls the signatures of the model's file.
import { fetchBytes, Trouble } from "./files.js";

export async function open(facts, progress) {
  const runtime = fetchRuntime(facts.runtime, progress).then(async (files) => {
    try {
      return await startRuntime(files);
    } catch (error) {
      console.warn(error);
      throw new Trouble("This browser cannot run LiteRT.js: its WebAssembly is too old. "
        + "A newer browser can.");
    }
  });
  const model = fetchBytes("model.tflite", facts.files["model.tflite"], "The model’s file");
  const [litert, content] = await Promise.all([runtime, model]);
  try {
    const compiled = await litert.loadAndCompile(content, { accelerator: "wasm" });
    return await Litert.of(litert, compiled);
  } catch (error) {
    console.warn(error);
    throw new Trouble("The model’s file cannot be opened by this browser’s LiteRT.js. Export the model again.");
  }
}

async function fetchRuntime({ base, version, files }, progress) {
  let arrived = 0;
  const all = Object.values(files).reduce((sum, { bytes }) => sum + bytes, 0);
  const fetched = await Promise.all(Object.entries(files).map(async ([role, { path, integrity, bytes }]) => {
    const data = await fetchVerified(new URL(base + path, document.baseURI), integrity, `litertjs-${version}`);
    progress((arrived += bytes) / all);
    return [role, data];
  }));
  return Object.fromEntries(fetched);
}

// A file that may come from another host; the browser itself verifies the hash.
async function fetchVerified(url, integrity, keep) {
  const what = "LiteRT.js, the program that runs the model,";
  let response;
  try {
    // Twice, because the first may be an old copy from the browser's cache.
    response = await fetch(url, { integrity }).catch(() => fetch(url, { integrity, cache: "reload" }));
  } catch {
    const there = await fetch(url).then((r) => r.ok, () => false);
    throw new Trouble(there
      ? `${what} is damaged: it is not the file that was exported. Copy the whole folder again, or export it again.`
      : `${what} could not be fetched. Check the connection and load the page again.`);
  }
  if (self.caches) {
    // The service worker serves it from this cache later, so that it is fetched only once.
    const copy = response.clone();
    caches.open(keep)
      .then(async (cache) => (await cache.match(url)) ?? cache.put(url, copy))
      .catch(() => { }); // no room on the device: then the page does not work offline
  }
  return new Uint8Array(await response.arrayBuffer());
}

function script(content) {
  return URL.createObjectURL(new Blob([content], { type: "text/javascript" }));
}

// Runs the bytes that were verified, and does not fetch any script again.
async function startRuntime({ core, utils, loader, wasm }) {
  const source = new TextDecoder().decode(core).replace('"@litertjs/wasm-utils"', `"${script(utils)}"`);
  const litert = await import(script(source));
  // LiteRT.js logs to stderr even if there is no error.
  self.Module = { wasmBinary: wasm, printErr: (line) => console.debug(line) };
  await litert.loadLiteRt(`${script(loader)}#.js`); // a name without .js would be taken for a folder
  return litert;
}

export class Litert {
  static async of(litert, compiled) {
    const own = new Litert();
    Object.assign(own, { litert, compiled, shapes: {} });
    for (const name of ["generate", "generate_batch", "constrained", "vocab"]) {
      own.shapes[name] = Object.fromEntries(Object.values(compiled.signatures[name].getInputDetails())
        .map((input) => [input.name, Array.from(input.shape)]));
    }
    const { text, state } = own.shapes.generate_batch;
    [own.rows, own.readWidth] = text;
    own.stateSize = state[1];
    const index = Int32Array.from({ length: own.shapes.vocab.index[0] }, (_, i) => i);
    own.codes = (await own.run("vocab", { index })).codes;
    return own;
  }

  // The signature `constrained` under a rule, else `generate` for one row, `generate_batch` for more.
  generate(arrays) {
    const rows = arrays.text_length.length;
    return this.run(arrays.moves ? "constrained" : rows === 1 ? "generate" : "generate_batch", arrays);
  }

  // Runs a signature on typed arrays; no tensor outlives the call.
  async run(signature, arrays) {
    const tensors = [];
    try {
      const inputs = {};
      for (const [name, array] of Object.entries(arrays)) {
        inputs[name] = new this.litert.Tensor(array, this.shapes[signature][name]);
        tensors.push(inputs[name]);
      }
      const outputs = await this.compiled.run(signature, inputs);
      tensors.push(...Object.values(outputs));
      const copies = {};
      for (const [name, tensor] of Object.entries(outputs)) copies[name] = (await tensor.data()).slice();
      return copies;
    } finally {
      for (const tensor of tensors) tensor.delete();
    }
  }
}
