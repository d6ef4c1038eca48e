// Runs the listing for a test: each line of standard input is a call.
import { CharLM } from "./charlm.js";
import { readLine } from "react-native-fast-tflite";

const model = await CharLM.load({ url: "model.tflite" });
console.log("ready");
for (let line; (line = await readLine()) !== undefined;) {
  const [prompt, seed, settings] = line.split("\t");
  let text = "";
  try {
    await model.generate(prompt, Number(seed), JSON.parse(settings), (piece) => { text += piece; });
    console.log(text.replaceAll("\n", "\\n"));
  } catch (error) {
    console.log(error.message);
  }
}
