// What the listing uses of Dart's library, and of tflite_flutter 0.12.1 as declared in its
// lib/src/interpreter.dart and lib/src/tensor.dart.
type Int32List = Int32Array;
type Float32List = Float32Array;
type Uint8List = Uint8Array;

interface Array<T> {
  readonly last: T;
  sublist(start: number, end?: number): T[];
}
interface Int32Array {
  readonly last: number;
  sublist(start: number, end?: number): Int32Array;
  setAll(index: number, values: Iterable<number>): void;
}
interface ArrayBuffer {
  asUint8List(): Uint8Array;
  asInt32List(): Int32Array;
}
interface SharedArrayBuffer {
  asUint8List(): Uint8Array;
  asInt32List(): Int32Array;
}
interface String {
  readonly runes: Iterable<number>;
}
interface StringConstructor {
  fromCharCodes(codes: Iterable<number>): string;
}

interface ListType<T> {
  (length: number): T;
  fromList(values: Iterable<number>): T;
}
declare const Int32List: ListType<Int32Array>;
declare const Float32List: ListType<Float32Array>;
declare const Uint8List: ListType<Uint8Array>;
declare function ArgumentError(message: string): Error;
declare function min(a: number, b: number): number;

/** A value after a call on it: what Dart's `value..call()` is. */
declare function cascade<T>(value: T, call: (it: T) => void): T;

interface Tensor {
  data: Uint8List;
  readonly shape: number[];
}
declare class Interpreter {
  static fromAsset(asset: string): Promise<Interpreter>;
  getInputIndex(name: string): number;
  getInputTensor(index: number): Tensor;
  getOutputIndex(name: string): number;
  getOutputTensor(index: number): Tensor;
  invoke(): void;
  close(): void;
}
