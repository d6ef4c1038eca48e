// The process at the other end of standard input and output runs LiteRT's Python package.
import { readSync, writeSync } from "node:fs";

const byte = Buffer.alloc(1);

export function readLine() {
  const bytes = [];
  while (readSync(0, byte) === 1) {
    if (byte[0] === 10) return Buffer.from(bytes).toString();
    bytes.push(byte[0]);
  }
  return undefined;
}

export function print(line) {
  writeSync(1, `${line}\n`);
}

function ask(question) {
  print(`LiteRT ${question}`);
  return readLine();
}

class Interpreter {
  static async fromAsset(asset) {
    return Object.assign(new Interpreter(), JSON.parse(ask(`graph ${asset}`)));
  }

  // As in the package, a name that is missing is an error, and input data of a wrong size too.
  getInputIndex = (name) => index(this.inputs, name);
  getOutputIndex = (name) => index(this.outputs, name);
  getInputTensor = (i) => new Tensor(this.inputs[i]);
  getOutputTensor = (i) => new Tensor(this.outputs[i]);

  invoke() {
    const hex = this.inputs.map((tensor) => Buffer.from(tensor.data).toString("hex"));
    const results = ask(`invoke ${hex.join(" ")}`).split(" ");
    results.forEach((result, i) => { this.outputs[i].data = Buffer.from(result, "hex"); });
  }

  close() {}
}

class Tensor {
  constructor(of) { this.of = of; }
  get shape() { return this.of.shape; }
  get data() { return this.of.data ?? new Uint8Array(size(this.of)); }
  set data(bytes) {
    if (bytes.length !== size(this.of)) throw new Error(`${bytes.length} bytes for ${this.of.name}`);
    this.of.data = Uint8Array.from(bytes);
  }
}

const size = ({ shape }) => shape.reduce((product, n) => product * n, 4);

function index(tensors, name) {
  const i = tensors.findIndex((tensor) => tensor.name === name);
  if (i < 0) throw new Error(`no tensor ${name}`);
  return i;
}

function list(type) {
  return Object.assign((length) => new type(length), { fromList: (values) => type.from(values) });
}

function extend(type, members) {
  Object.defineProperties(type.prototype, Object.getOwnPropertyDescriptors(members));
}

for (const type of [Array, Int32Array]) {
  extend(type, {
    get last() { return this.at(-1); },
    sublist(start, end) { return this.slice(start, end); },
    setAll(at, values) { values.forEach((value, i) => { this[at + i] = value; }); },
  });
}
extend(ArrayBuffer, {
  asUint8List() { return new Uint8Array(this); },
  asInt32List() { return new Int32Array(this); },
});
extend(String, {
  get runes() { return Array.from(this, (character) => character.codePointAt(0)); },
});
String.fromCharCodes = (codes) => String.fromCodePoint(...codes);
Object.assign(globalThis, {
  Interpreter,
  Float32List: list(Float32Array),
  Int32List: list(Int32Array),
  Uint8List: list(Uint8Array),
  ArgumentError: (message) => new Error(message),
  cascade(value, call) { call(value); return value; },
  min: Math.min,
});
