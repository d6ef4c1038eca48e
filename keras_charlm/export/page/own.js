// Runs the model with engine.wasm, the engine of this project, on the model's weights file.
import { fetchBytes, Trouble } from "./files.js";

const [READ, DRAW, LINE] = [64, 64, 256]; // most characters that a call reads, and draws without and with a rule
const ADDRESSES = ["text", "text_length", "seed", "position", "state", "drawn", "lengths", "done",
  "classes", "moves", "rule_state", "steps"]; // in the order of `address` in engine/generate.c
const [HEADER, SYMBOLS] = [9, 4]; // numbers before the codes in a weights file, and which is the symbols' count

export async function open(facts, progress) {
  const arrived = {};
  const fetched = (name, what) => fetchBytes(name, facts.files[name], what, (bytes) => {
    arrived[name] = bytes;
    progress(Object.values(arrived).reduce((a, b) => a + b)
      / Object.values(facts.files).reduce((sum, { bytes }) => sum + bytes, 0));
  });
  const [program, weights] = await Promise.all([
    fetched("engine.wasm", "The program that runs the model"), fetched("weights.bin", "The model’s file")]);
  return Own.of(program, weights);
}

export class Own {
  rows = 32; // rows of a call that draws many texts

  readWidth = READ;

  // From the bytes of engine.wasm and of a weights file.
  static async of(program, weights) {
    const own = new Own();
    const { instance } = await WebAssembly.instantiate(program);
    const { exports } = instance;
    const at = exports.reserve(weights.length);
    if (at) new Uint8Array(exports.memory.buffer).set(weights, at);
    if (!at || !exports.open(at, weights.length)) {
      throw new Trouble("The model’s file cannot be opened by this page’s engine: it is not of this version, "
        + "or the device has too little memory. Export the model again.");
    }
    const head = new Int32Array(weights.buffer, weights.byteOffset, HEADER);
    own.codes = new Int32Array(weights.buffer, weights.byteOffset + 4 * HEADER, head[SYMBOLS]); // not the labels'
    own.exports = exports;
    own.stateSize = exports.state_size();
    own.addresses = Object.fromEntries(ADDRESSES.map((name, i) => [name, exports.address(i)]));
    return own;
  }

  // The signature `generate`, or `constrained` if there is a rule, for any number of rows up to
  // `rows`: typed arrays in and out.
  async generate(arrays) {
    const { exports, stateSize } = this;
    const { length, stop, temperature, top_k, top_p, min_p, width, mask, patience } = arrays;
    const rows = arrays.text_length.length;
    const ruled = Boolean(arrays.moves);
    const columns = stateSize + Number(ruled); // the last one is the state of the rule
    const ints = (name, size) => new Int32Array(exports.memory.buffer, this.addresses[name], size);
    const state = new Float32Array(exports.memory.buffer, this.addresses.state, rows * stateSize);
    for (const name of ["text", "text_length", "seed", "position", ...(ruled ? ["classes", "moves"] : [])]) {
      ints(name, arrays[name].length).set(arrays[name]);
    }
    for (let r = 0; r < rows; r++) {
      state.set(arrays.state.subarray(r * columns, r * columns + stateSize), r * stateSize);
      if (ruled) ints("rule_state", rows)[r] = arrays.state[r * columns + stateSize];
    }
    const settings = [rows, length[0], stop[0], temperature[0], top_k[0], top_p[0], min_p[0]];
    if (ruled) exports.constrained(...settings, width[0], mask[0], patience[0]);
    else exports.generate(...settings);
    const after = new Float32Array(rows * columns);
    for (let r = 0; r < rows; r++) {
      after.set(state.subarray(r * stateSize, (r + 1) * stateSize), r * columns);
      if (ruled) after[r * columns + stateSize] = ints("rule_state", rows)[r];
    }
    return {
      text: ints("drawn", rows * (ruled ? LINE : DRAW)).slice(),
      lengths: ints("lengths", rows).slice(),
      done: ints("done", rows).slice(),
      ...(ruled ? { steps: ints("steps", rows).slice() } : {}),
      state: after,
    };
  }
}
