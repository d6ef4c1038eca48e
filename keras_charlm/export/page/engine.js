// Samples like the Python code: texts of many characters from calls that read and draw a few.

const PATIENCE = 20; // milliseconds; a stream's chunks stop growing once one takes this long
const LINE_CHUNK = 8; // characters drawn between refills of a batch of lines
const SLICE = 16; // milliseconds of work after which the page may respond: one frame

// Opens the model with the engine that the page was exported for. `progress` is called with the
// share of the files that has arrived.
export async function open(facts, progress) {
  const { open: start } = facts.engine === "litert" ? await import("./litert.js") : await import("./own.js");
  return Engine.of(await start(facts, progress), facts);
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
  // `model` runs the network: it has `generate`, `rows`, `readWidth`, `stateSize` and `codes`.
  static async of(model, facts) {
    const engine = new Engine();
    const { rows, readWidth, stateSize } = model;
    Object.assign(engine, { model, facts, rows, readWidth, stateSize });
    engine.known = new Set(model.codes.subarray(1));
    const out = await engine.call([[facts.start]], { length: 0 });
    engine.drawWidth = out.text.length;
    return engine;
  }

  // Calls the model for some rows of codes; a row that is null is idle.
  async call(rows, { length, seeds = [0], positions = [0], state, settings = {} }) {
    const text = new Int32Array(rows.length * this.readWidth);
    rows.forEach((codes, r) => text.set(codes ?? [], r * this.readWidth));
    return this.model.generate({
      text,
      text_length: Int32Array.from(rows, (codes) => codes?.length ?? 0),
      seed: Int32Array.from(seeds),
      position: Int32Array.from(positions),
      length: Int32Array.of(length),
      stop: Int32Array.of(settings.stop ?? -1),
      temperature: Float32Array.of(settings.temperature ?? 1),
      top_k: Int32Array.of(Math.min(settings.topK ?? 0, this.known.size)),
      top_p: Float32Array.of(settings.topP ?? 1),
      state: state ?? new Float32Array(rows.length * this.stateSize),
    });
  }

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
  async read(codes, signal) {
    const begun = this.memory && this.memory.codes.length <= codes.length
      && this.memory.codes.every((code, i) => code === codes[i]);
    let { state, at } = begun ? { state: this.memory.state, at: this.memory.codes.length - 1 } : { at: 0 };
    const pace = new Pace();
    // Each piece begins with the character that the previous one left unread.
    for (; at < codes.length - 1 && !signal?.aborted; at += this.readWidth - 1) {
      ({ state } = await this.call([codes.slice(at, at + this.readWidth)], { length: 0, state }));
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
    let state = await this.read(codes, signal);
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
      state = out.state;
      // The next prompt is most often the text so far.
      if (this.codes(prompt).length) this.memory = { codes: codes.slice(), state };
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
    const first = await this.read(codes, signal) ?? new Float32Array(this.stateSize);
    const size = num === 1 ? 1 : this.rows;
    const chunk = lines && num > 1 ? LINE_CHUNK : this.drawWidth;
    const rows = Array(size).fill(null);
    const seeds = Array(size).fill(0);
    const state = new Float32Array(size * this.stateSize);
    const limit = 100 * num; // samples drawn, accepted or not
    const ended = new Map();
    let started = 0, needed = num, following = 0, yielded = 0;
    const pace = new Pace();
    while (!signal?.aborted) {
      for (let r = 0; r < size; r++) {
        if (rows[r] || started >= Math.min(needed, limit)) continue;
        seeds[r] = (seed + started) % 2 ** 31;
        rows[r] = { index: started++, codes: [], last: codes.at(-1), seed: seeds[r] };
        state.set(first, r * this.stateSize);
      }
      const busy = rows.filter(Boolean);
      if (!busy.length) return;
      const count = Math.min(chunk, ...busy.map((row) => length - row.codes.length));
      const out = await this.call(rows.map((row) => row && [row.last]), {
        length: count, seeds, positions: rows.map((row) => row?.codes.length ?? 0), state, settings,
      });
      state.set(out.state);
      const width = out.text.length / size;
      for (let r = 0; r < size; r++) {
        const row = rows[r];
        if (!row) continue;
        row.codes.push(...out.text.subarray(r * width, r * width + out.lengths[r]));
        row.last = row.codes.at(-1) ?? row.last;
        if (!out.done[r] && row.codes.length < length) continue;
        const text = begin + this.decoder()(row.codes, true);
        const sample = { text, seed: row.seed };
        const good = !(lines && !text) && accept(sample);
        ended.set(row.index, good ? sample : null);
        needed += !good;
        rows[r] = null;
      }
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
}
