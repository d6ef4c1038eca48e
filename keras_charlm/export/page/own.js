// Runs the model with engine.wasm, the engine of this project, on the model's weights file.
import { fetchBytes, Trouble } from "./files.js";

const [READ, DRAW] = [64, 64]; // most characters that a call reads and draws
const ADDRESSES = ["text", "text_length", "seed", "position", "state", "drawn", "lengths", "done"];
const HEADER = 9; // numbers before the codes in a weights file, the last of them their count

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
    own.codes = new Int32Array(weights.buffer, weights.byteOffset + 4 * HEADER, head[HEADER - 1]);
    own.exports = exports;
    own.stateSize = exports.state_size();
    own.addresses = Object.fromEntries(ADDRESSES.map((name, i) => [name, exports.address(i)]));
    return own;
  }

  // The signature `generate` for any number of rows up to `rows`: typed arrays in and out.
  async generate({ text, text_length, seed, position, length, stop, temperature, top_k, top_p, state }) {
    const rows = text_length.length;
    const { memory, generate } = this.exports;
    const at = this.addresses;
    for (const [name, array] of Object.entries({ text, text_length, seed, position })) {
      new Int32Array(memory.buffer, at[name]).set(array);
    }
    new Float32Array(memory.buffer, at.state).set(state);
    generate(rows, length[0], stop[0], temperature[0], top_k[0], top_p[0]);
    return {
      text: new Int32Array(memory.buffer, at.drawn, rows * DRAW).slice(),
      lengths: new Int32Array(memory.buffer, at.lengths, rows).slice(),
      done: new Int32Array(memory.buffer, at.done, rows).slice(),
      state: new Float32Array(memory.buffer, at.state, rows * this.stateSize).slice(),
    };
  }
}
