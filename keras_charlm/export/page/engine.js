// Samples like the Python code: texts of many characters from calls that read and draw a few.
import { begins, compile, Contradiction, ENTRIES } from "./rule.js";

const PATIENCE = 20; // milliseconds; a stream's chunks stop growing once one takes this long
const LINE = 256; // most characters that a call draws under a rule
const LINE_CHUNK = 8; // characters drawn between refills of a batch of lines
const SLICE = 16; // milliseconds of work after which the page may respond: one frame
const TRIES = 32; // characters that a row draws under a rule before it begins a last time in a call
const VAIN = 10000; // characters drawn in vain after which a text is masked

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
    engine.symbols = Array.from(model.codes);
    engine.ids = new Map(engine.symbols.map((code, id) => [code, id]));
    const out = await engine.call([[facts.start]], { length: 0 });
    engine.drawWidth = out.text.length;
    return engine;
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

  // Calls the model for some rows of codes; a row that is null is idle.
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
    return this.model.generate({
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

  // What is read before drawing: the start symbol, the codes of labels, and the prompt.
  start(text, labels = []) {
    return [this.facts.start, ...labels, ...this.codes(text)];
  }

  // Yields the pieces of one text as they are drawn.
  async* stream(prompt, { seed, length, signal, ...settings }) {
    const codes = this.start(prompt, settings.labels);
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

  // Yields {text, seed, ended} of `num` texts in the order of their seeds; sample i has seed + i.
  async* samples(prompt, { num, seed, length, accept = () => true, signal, ...settings }) {
    const { lines, start } = this.facts;
    const codes = this.start(prompt, settings.labels);
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
        ended.set(row.index, row.failed || (lines && !text) ? null : { text, seed: row.seed, ended: row.ended });
        rows[r] = null;
      });
      // In the order of the seeds, so that what is accepted does not depend on which row is faster.
      for (; ended.has(following); following++) {
        const sample = ended.get(following);
        ended.delete(following);
        if (!sample || !accept(sample)) {
          needed++;
          continue;
        }
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
      row.done = row.ended = Boolean(out.done[r]);
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
      const most = Math.min(LINE, ...busy.map((row) => length - row.codes.length));
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
