// The part of LiteRT's Kotlin interface that the listings and the Android project use, written down
// from the sources of com.google.ai.edge.litert 2.1.6 (litert/kotlin; 2.1.0 and 2.2.0 declare the
// same). Where the real one calls native code, this one asks the process at the other end of
// standard input and output, which runs LiteRT's Python package: see tests/apps.py.
package com.google.ai.edge.litert

import android.content.res.AssetManager

class LiteRtException(message: String) : Exception(message)

data class TensorType(val elementType: ElementType, val layout: Layout? = null) {
  enum class ElementType {
    INT,
    FLOAT,
    INT8,
    BOOLEAN,
    INT64,
  }

  data class Layout(val dimensions: List<Int>, val strides: List<Int> = listOf()) {
    val rank: Int
      get() = dimensions.size
  }
}

enum class Accelerator {
  NONE,
  CPU,
  GPU,
  NPU,
}

class TensorBuffer internal constructor(private val size: Int) : AutoCloseable {
  internal var values: List<String> = List(size) { "0" }

  fun writeInt(data: IntArray) = write(data.map { it.toString() })

  fun writeFloat(data: FloatArray) = write(data.map { it.toString() })

  fun readInt(): IntArray = values.map { it.toInt() }.toIntArray()

  fun readFloat(): FloatArray = values.map { it.toFloat() }.toFloatArray()

  private fun write(data: List<String>) {
    if (data.size != size) throw LiteRtException("${data.size} values for $size")
    values = data
  }

  override fun close() {}
}

class CompiledModel private constructor() : AutoCloseable {
  class Options(internal val accelerators: Set<Accelerator>) {
    constructor(vararg accelerators: Accelerator) : this(setOf(*accelerators))

    companion object {
      @JvmStatic val CPU = Options(Accelerator.CPU)
    }
  }

  fun createInputBuffer(inputName: String, signature: String = ""): TensorBuffer =
    TensorBuffer(getInputTensorType(inputName, signature).layout!!.dimensions.reduce(Int::times))

  fun createOutputBuffer(outputName: String, signature: String = ""): TensorBuffer =
    TensorBuffer(getOutputTensorType(outputName, signature).layout!!.dimensions.reduce(Int::times))

  fun run(
    inputs: Map<String, TensorBuffer>,
    outputs: Map<String, TensorBuffer>,
    signature: String = "",
  ) {
    val given = inputs.map { (name, buffer) -> "$name=${buffer.values.joinToString(",")}" }
    for (part in ask("run $signature ${given.joinToString(" ")}").split(" ")) {
      val (name, values) = part.split("=")
      outputs[name]?.values = values.split(",")
    }
  }

  fun getInputTensorType(inputName: String, signature: String = ""): TensorType =
    type(ask("input $signature $inputName"))

  fun getOutputTensorType(outputName: String, signature: String = ""): TensorType =
    type(ask("output $signature $outputName"))

  override fun close() {}

  companion object {
    @JvmOverloads
    @JvmStatic
    fun create(
      assetManager: AssetManager,
      assetName: String,
      options: Options = Options.CPU,
    ): CompiledModel {
      assetManager.open(assetName).close()
      ask("open $assetName")
      return CompiledModel()
    }

    private fun type(shape: String): TensorType =
      TensorType(TensorType.ElementType.INT, TensorType.Layout(shape.split(",").map { it.toInt() }))

    private fun ask(question: String): String {
      println("LiteRT $question")
      return readln()
    }
  }
}
