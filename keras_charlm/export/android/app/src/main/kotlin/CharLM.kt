package com.example.charlm

import android.content.res.AssetManager
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.TensorType

/** What a text is drawn with: the settings of `kcharlm generate`. */
data class Settings(
  val length: Int = 500,
  val temperature: Float = 0.8f,
  val topK: Int = 0,
  val topP: Float = 1f,
  val minP: Float = 0f,
  val stop: Int = -1, // the code point that ends a text; '\n'.code for a list
)

/** The model in a file of the app's assets. Call it off the main thread, from one thread at a time. */
class CharLM(assets: AssetManager, file: String = "model.tflite") : AutoCloseable {
  private val model = CompiledModel.create(assets, file, CompiledModel.Options.CPU)
  private val inputs =
    listOf(
        "text", "text_length", "seed", "position", "length", "stop", "temperature", "top_k",
        "top_p", "min_p", "state")
      .associateWith { model.createInputBuffer(it, "generate") }
  private val outputs =
    listOf("text", "lengths", "done", "bits", "state")
      .associateWith { model.createOutputBuffer(it, "generate") }
  private val reads = size(model.getInputTensorType("text", "generate"))
  private val draws = size(model.getOutputTensorType("text", "generate"))
  private val stateSize = size(model.getInputTensorType("state", "generate"))

  /** The code points that the model knows; for a byte model, the bytes. */
  val symbols: Set<Int> = readSymbols()

  /**
   * Reads `codes` and passes what follows to `show`, piece by piece, until `show` returns false.
   *
   * @param codes a newline, and the code points of the prompt, normalized as in training.
   * @throws IllegalArgumentException if a setting is out of range.
   */
  fun generate(codes: IntArray, seed: Int, settings: Settings, show: (IntArray) -> Boolean) {
    put("seed", seed)
    put("stop", settings.stop)
    put("top_k", minOf(settings.topK, symbols.size))
    put("temperature", settings.temperature)
    put("top_p", settings.topP)
    put("min_p", settings.minP)
    inputs.getValue("state").writeFloat(FloatArray(stateSize))

    var unread = codes
    while (unread.size > reads) {
      run(unread.copyOf(reads), position = 0, length = 0)
      unread = unread.copyOfRange(reads - 1, unread.size)
    }
    var position = 0
    while (position < settings.length) {
      val length = minOf(draws, settings.length - position)
      run(unread, position, length)
      val count = get("lengths")[0]
      require(count >= 0) { "A setting is out of range: $settings" }
      val drawn = get("text").copyOf(count)
      if (count > 0) unread = intArrayOf(drawn.last())
      if (!show(drawn) || get("done")[0] == 1) return
      position += length
    }
  }

  private fun run(codes: IntArray, position: Int, length: Int) {
    inputs.getValue("text").writeInt(codes.copyOf(reads)) // padded with zeros
    put("text_length", codes.size)
    put("position", position)
    put("length", length)
    model.run(inputs, outputs, "generate")
    inputs.getValue("state").writeFloat(outputs.getValue("state").readFloat())
  }

  private fun readSymbols(): Set<Int> {
    val count = size(model.getInputTensorType("index", "vocab"))
    val index = model.createInputBuffer("index", "vocab")
    val codes = model.createOutputBuffer("codes", "vocab")
    index.writeInt(IntArray(count) { it })
    model.run(mapOf("index" to index), mapOf("codes" to codes), "vocab")
    return codes.readInt().filter { it >= 0 }.toSet().also { index.close(); codes.close() }
  }

  private fun size(type: TensorType) = type.layout!!.dimensions.last()

  private fun put(name: String, value: Int) = inputs.getValue(name).writeInt(intArrayOf(value))

  private fun put(name: String, value: Float) = inputs.getValue(name).writeFloat(floatArrayOf(value))

  private fun get(name: String) = outputs.getValue(name).readInt()

  override fun close() {
    (inputs.values + outputs.values).forEach { it.close() }
    model.close()
  }
}
