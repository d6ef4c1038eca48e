// The process at the other end of standard input and output runs LiteRT's Python package.
import { createInterface } from "node:readline";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

export async function readLine() {
  return (await lines.next()).value;
}

async function ask(question) {
  console.log(`LiteRT ${question}`);
  return readLine();
}

export async function loadTensorflowModel({ url }, delegates) {
  const { inputs, outputs } = JSON.parse(await ask(`graph ${url}`));
  const run = async (buffers) => {
    const hex = buffers.map((buffer) => Buffer.from(buffer).toString("hex"));
    const results = await ask(`invoke ${hex.join(" ")}`);
    return results.split(" ").map((result) => Uint8Array.from(Buffer.from(result, "hex")).buffer);
  };
  return { delegates, inputs, outputs, run };
}
