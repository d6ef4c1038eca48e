// The part of the interface of react-native-fast-tflite 3.0.1 that the listing uses, written down
// from that package's src/specs/Tflite.nitro.ts and src/loadTensorflowModel.ts.
export type TensorflowModelDelegate = "metal" | "core-ml" | "nnapi" | "android-gpu";

export interface Tensor {
  name: string;
  dataType: "float32" | "int32";
  shape: number[];
}

export interface TfliteModel {
  readonly inputs: Tensor[];
  readonly outputs: Tensor[];
  run(input: ArrayBuffer[]): Promise<ArrayBuffer[]>;
}

// What `require` of an asset returns, or an address.
export type ModelSource = number | { url: string };

export declare function loadTensorflowModel(
  source: ModelSource,
  delegates: TensorflowModelDelegate[],
): Promise<TfliteModel>;
