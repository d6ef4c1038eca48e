// Calls the page's own engine in Node: JSON {modules, program, weights, calls} in, outputs out.
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

let input = "";
for await (const part of process.stdin) input += part;
const { modules, program, weights, calls } = JSON.parse(input);
const { Own } = await import(pathToFileURL(`${modules}/own.js`));
const own = await Own.of(await readFile(program), new Uint8Array(await readFile(weights)));
const outputs = [];
for (const { floats, ints } of calls) {
  const arrays = {};
  for (const [name, values] of Object.entries(ints)) arrays[name] = Int32Array.from(values);
  for (const [name, values] of Object.entries(floats)) arrays[name] = Float32Array.from(values);
  arrays.state = new Float32Array(arrays.text_length.length * (own.stateSize + (arrays.moves ? 1 : 0)));
  const { state, ...rest } = await own.generate(arrays);
  outputs.push(Object.fromEntries(Object.entries(rest).map(([name, array]) => [name, Array.from(array)])));
}
console.log(JSON.stringify(outputs));
