// Runs the listing for a test: each line of standard input is a call.
import { print, readLine } from "./dart.js";
import { CharLM } from "./charlm.js";

const model = await CharLM.load("model.tflite");
print("ready");
for (let line; (line = readLine()) !== undefined;) {
  const [prompt, seed, settings] = line.split("\t");
  try {
    const pieces = [...model.generate(prompt, Number(seed), JSON.parse(settings))];
    print(pieces.join("").replaceAll("\n", "\\n"));
  } catch (error) {
    print(error.message);
  }
}
model.close();
