// Runs the model: fetches and checks its files, starts LiteRT.js, and samples like the Python code.
import { begins, compile, Contradiction, ENTRIES } from "./rule.js";

// An error whose message is a complete sentence for the user.
export class Trouble extends Error {}

const PATIENCE = 20; // milliseconds; a stream's chunks stop growing once one takes this long
const LINE_CHUNK = 8; // characters drawn between refills of a batch of lines
const SLICE = 16; // milliseconds of work after which the page may respond: one frame
const TRIES = 32; // characters that a row draws under a rule before it begins a last time in a call
const VAIN = 10000; // characters drawn in vain after which a text is masked

// Fetches the bytes of a file; the browser itself verifies the hash.
async function fetchBytes(url, integrity, what, keep) {
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
  if (keep && self.caches) {
    // The service worker serves it from this cache later, so that it is fetched only once.
    const copy = response.clone();
    caches.open(keep)
      .then(async (cache) => (await cache.match(url)) ?? cache.put(url, copy))
      .catch(() => { }); // no room on the device: then the page does not work offline
  }
  return new Uint8Array(await response.arrayBuffer());
}

async function fetchRuntime({ base, version, files }) {
  const fetched = await Promise.all(Object.entries(files).map(async ([role, { path, integrity }]) =>
    [role, await fetchBytes(new URL(base + path, document.baseURI), integrity,
      "LiteRT.js, the program that runs the model,", `litertjs-${version}`)]));
  return Object.fromEntries(fetched);
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

export async function open(facts) {
  const runtime = fetchRuntime(facts.runtime).then(async (files) => {
    try {
      return await startRuntime(files);
    } catch (error) {
      console.warn(error);
      throw new Trouble("This browser cannot run LiteRT.js: its WebAssembly is too old. "
        + "A newer browser can.");
    }
  });
  const model = fetchBytes("model.tflite", facts.model, "The model’s file");
  const [litert, content] = await Promise.all([runtime, model]);
  let compiled;
  try {
    compiled = await litert.loadAndCompile(content, { accelerator: "wasm" });
    return await Engine.of(litert, compiled, facts);
  } catch (error) {
    console.warn(error);
    throw new Trouble("The model’s file cannot be opened by this browser’s LiteRT.js. Export the model again.");
  }
}

// Lets the page respond between two calls of the model, so that a text can be stopped.
class Pace {
  began = performance.now();

  async turn() {
    if (performance.now() - this.began < SLICE) return;
    await new Promise((resolve) => { setTimeout(resolve); });
    this.began = performance.now();
  }
}

export class Engine {
  static async of(litert, compiled, facts) {
    const engine = new Engine();
    Object.assign(engine, { litert, compiled, facts, shapes: {} });
    for (const name of ["generate", "generate_batch", "constrained", "vocab"]) {
      engine.shapes[name] = Object.fromEntries(Object.values(compiled.signatures[name].getInputDetails())
        .map((input) => [input.name, Array.from(input.shape)]));
    }
    const { text, state } = engine.shapes.generate_batch;
    [engine.rows, engine.readWidth] = text;
    engine.stateSize = state[1];
    const index = Int32Array.from({ length: engine.shapes.vocab.index[0] }, (_, i) => i);
    const { codes } = await engine.run("vocab", { index });
    engine.known = new Set(codes.subarray(1));
    engine.symbols = Array.from(codes);
    engine.ids = new Map(engine.symbols.map((code, id) => [code, id]));
    const out = await engine.call([[engine.facts.start]], { length: 0 });
    engine.drawWidth = out.text.length;
    return engine;
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

  // Compiles conditions for `stream` and `samples` after a prompt; throws a Contradiction.
  rule(prompt, { end = "", ban = [], from = 0, to = null }) {
    const { lines, start, unit } = this.facts;
    const model = { codes: this.symbols, unit, end: lines ? this.ids.get(start) : null };
    const tables = compile(model, {
      endsWith: this.codes(end), ban: ban.map((word) => this.codes(word)), minLength: from, maxLength: to,
    });
    if (lines && !begins(tables, this.codes(prompt).map((code) => this.ids.get(code) ?? 0))) {
      throw new Contradiction(`No text that begins with “${prompt}” can fit all of this. Loosen one of the conditions.`);
    }
    const moves = new Int32Array(ENTRIES);
    moves.set(tables.moves);
    return { ...tables, moves };
  }

  // `generate` for one row of codes, `generate_batch` for more, `constrained` under a rule; a row
  // that is null is idle.
  async call(rows, { length, seeds = [0], positions = [0], state, settings = {} }) {
    if (settings.rule) rows = Array.from({ length: this.rows }, (_, r) => rows[r] ?? null);
    const count = rows.length;
    const text = new Int32Array(count * this.readWidth);
    rows.forEach((codes, r) => text.set(codes ?? [], r * this.readWidth));
    const filled = (values, Kind, width = 1) => {
      const array = new Kind(count * width);
      array.set(values);
      return array;
    };
    const { rule } = settings;
    const further = rule ? {
      classes: rule.classes, moves: rule.moves, width: Int32Array.of(rule.width),
      mask: Int32Array.of(Number(settings.mask ?? true)), patience: Int32Array.of(TRIES),
    } : {};
    return this.run(rule ? "constrained" : count === 1 ? "generate" : "generate_batch", {
      text,
      text_length: Int32Array.from(rows, (codes) => codes?.length ?? 0),
      seed: filled(seeds, Int32Array),
      position: filled(positions, Int32Array),
      length: Int32Array.of(length),
      stop: Int32Array.of(settings.stop ?? -1),
      temperature: Float32Array.of(settings.temperature ?? 1),
      top_k: Int32Array.of(Math.min(settings.topK ?? 0, this.known.size)),
      top_p: Float32Array.of(settings.topP ?? 1),
      min_p: Float32Array.of(settings.minP ?? 0),
      state: filled(state ?? [], Float32Array, this.width(rule)),
      ...further,
    });
  }

  // Columns of the state of a row; under a rule, the last is the rule's.
  width(rule) { return this.stateSize + Number(Boolean(rule)); }

  // Normalizes a text like the corpus.
  normal(text) {
    const { normalize } = this.facts;
    return normalize === "none" ? text : text.normalize(normalize.toUpperCase());
  }

  // The code points or bytes of a text.
  codes(text) {
    const normal = this.normal(text);
    return this.facts.unit === "byte" ? Array.from(new TextEncoder().encode(normal))
      : Array.from(normal, (character) => character.codePointAt(0));
  }

  // A function from codes to text. A byte model's character may be split between two calls.
  decoder() {
    if (this.facts.unit === "byte") {
      const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
      return (codes, end) => utf8.decode(Uint8Array.from(codes), { stream: !end });
    }
    return (codes) => {
      let text = "";
      for (const code of codes) text += String.fromCodePoint(code);
      return text;
    };
  }

  // Characters of the text that the model has never seen: position and code.
  unknown(text) {
    return this.codes(text)
      .map((code, at) => ({ code, at }))
      .filter(({ code }) => !this.known.has(code));
  }

  // Reads all codes but the last; continues from the remembered state if the text extends its text.
  async read(codes, signal, settings) {
    const begun = this.memory && this.memory.rule === settings.rule && this.memory.codes.length <= codes.length
      && this.memory.codes.every((code, i) => code === codes[i]);
    let { state, at } = begun ? { state: this.memory.state, at: this.memory.codes.length - 1 } : { at: 0 };
    const pace = new Pace();
    // Each piece begins with the character that the previous one left unread.
    for (; at < codes.length - 1 && !signal?.aborted; at += this.readWidth - 1) {
      const out = await this.call([codes.slice(at, at + this.readWidth)], { length: 0, state, settings });
      state = out.state.subarray(0, this.width(settings.rule)); // of the first row
      await pace.turn();
    }
    return state;
  }

  start(text) {
    return [this.facts.start, ...this.codes(text)];
  }

  // Yields the pieces of one text as they are drawn.
  async* stream(prompt, { seed, length, signal, ...settings }) {
    const codes = this.start(prompt);
    settings.stop = this.facts.lines ? this.facts.start : -1;
    let state = await this.read(codes, signal, settings);
    const decode = this.decoder();
    const pace = new Pace();
    for (let at = 0, chunk = 1; at < length && !signal?.aborted;) {
      const count = Math.min(chunk, length - at);
      const began = performance.now();
      const out = await this.call([codes.slice(-1)],
        { length: count, seeds: [seed], positions: [at], state, settings });
      if (performance.now() - began < PATIENCE) chunk = Math.min(2 * chunk, this.drawWidth);
      const drawn = out.text.subarray(0, out.lengths[0]);
      for (const code of drawn) codes.push(code);
      at += count;
      if (drawn.length) yield decode(drawn, false);
      if (out.done[0]) break;
      state = out.state.subarray(0, this.width(settings.rule));
      // The next prompt is most often the text so far.
      if (this.codes(prompt).length) this.memory = { codes: codes.slice(), state, rule: settings.rule };
      await pace.turn();
    }
    const rest = decode([], true);
    if (rest) yield rest;
  }

  // Yields {text, seed} of `num` texts in the order of their seeds; sample i has seed + i.
  async* samples(prompt, { num, seed, length, accept = () => true, signal, ...settings }) {
    const { lines, start } = this.facts;
    const codes = this.start(prompt);
    const begin = this.normal(prompt);
    settings.stop = lines ? start : -1;
    const first = await this.read(codes, signal, settings) ?? new Float32Array(this.width(settings.rule));
    const begun = { last: codes.at(-1), state: first };
    const size = num === 1 && !settings.rule ? 1 : this.rows;
    const draw = settings.rule ? this.fit : this.advance;
    const rows = Array(size).fill(null);
    const limit = 100 * num; // samples drawn, accepted or not
    const ended = new Map();
    let started = 0, needed = num, following = 0, yielded = 0;
    const pace = new Pace();
    while (!signal?.aborted) {
      for (let r = 0; r < size; r++) {
        if (rows[r] || started >= Math.min(needed, limit)) continue;
        rows[r] = { index: started, codes: [], position: 0, seed: (seed + started++) % 2 ** 31, ...begun };
      }
      if (!rows.some(Boolean)) return;
      await draw.call(this, rows, { length, settings, chunk: lines && num > 1 ? LINE_CHUNK : this.drawWidth, begun });
      rows.forEach((row, r) => {
        if (!row?.done && !row?.failed) return;
        const text = begin + this.decoder()(row.codes, true);
        const sample = { text, seed: row.seed };
        const good = !row.failed && !(lines && !text) && accept(sample);
        ended.set(row.index, good ? sample : null);
        needed += !good;
        rows[r] = null;
      });
      for (; ended.has(following); following++) {
        const sample = ended.get(following);
        ended.delete(following);
        if (!sample) continue;
        yield sample;
        if (++yielded === num) return;
      }
      await pace.turn();
    }
  }

  // Calls the model for some of the rows, and updates their state and position.
  async forward(rows, length, settings) {
    const width = this.width(settings.rule);
    const state = new Float32Array(rows.length * width);
    rows.forEach((row, r) => row && state.set(row.state, r * width));
    const out = await this.call(rows.map((row) => row && [row.last]), {
      length, settings, state, seeds: rows.map((row) => row?.seed ?? 0),
      positions: rows.map((row) => row?.position ?? 0),
    });
    const most = out.text.length / rows.length;
    rows.forEach((row, r) => {
      if (!row) return;
      const drawn = out.text.subarray(r * most, r * most + out.lengths[r]);
      row.codes.push(...drawn);
      row.last = drawn.at(-1) ?? row.last;
      row.state = out.state.slice(r * width, (r + 1) * width);
      row.position += out.steps ? out.steps[r] : length;
      row.done = Boolean(out.done[r]);
    });
  }

  // Draws a chunk in every row; a row is done at the end of its line or at `length`.
  async advance(rows, { length, settings, chunk }) {
    const busy = rows.filter(Boolean);
    await this.forward(rows, Math.min(chunk, ...busy.map((row) => length - row.codes.length)), settings);
    for (const row of busy) row.done ||= row.codes.length >= length;
  }

  // Draws lines that fit a rule. A line that does not fit begins again, which gives the model's own
  // distribution; after too many characters in vain, or after as many as a call draws, only
  // characters that fit are drawn.
  async fit(rows, { length, settings, begun }) {
    for (const mask of [false, true]) {
      const some = rows.map((row) => row && !row.done && Boolean(row.mask) === mask ? row : null);
      const busy = some.filter(Boolean);
      if (!busy.length) continue;
      const most = Math.min(...busy.map((row) => length - row.codes.length));
      await this.forward(some, most, { ...settings, mask });
      for (const row of busy.filter(({ done }) => !done)) {
        const vain = row.position > VAIN;
        if (row.codes.length >= length) {
          row.failed = mask && vain; // it does not end
          Object.assign(row, begun, { codes: [], mask: vain });
        } else {
          row.mask = vain || row.codes.length > 0;
        }
      }
    }
  }
}
