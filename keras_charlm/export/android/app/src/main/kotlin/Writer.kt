package com.example.charlm

import java.text.Normalizer

/** A value of a label that the model was trained with, and the code that stands for it. */
data class Label(val column: String, val value: String, val code: Int)

/** What the lines of a list must be like. Upper and lower case do not matter. */
data class Conditions(
  val end: String = "",
  val from: Int = 0, // characters
  val to: Int = Int.MAX_VALUE,
  val banned: List<String> = emptyList(),
  val onlyNew: Boolean = false,
  val anyCase: Boolean = false, // of `onlyNew`
)

/** Turns prompts into texts. */
class Writer(private val model: CharLM, private val known: KnownLines?) : AutoCloseable {
  /** Set by another thread to end `lines` or `text`. */
  @Volatile var stopped = false

  /** The characters of a prompt that the model has never seen; for a byte model, none is named. */
  fun unknown(prompt: String): List<String> =
    encode(prompt).filter { it !in model.symbols }.distinct().map {
      if (Facts.BYTES) "byte $it" else String(Character.toChars(it))
    }

  /**
   * Draws distinct lines that meet the conditions: the lines that do not are dropped. Line i of
   * those drawn has the seed `seed` + i.
   *
   * @param show gets each line, and whether it is new: not in the training text.
   * @return how many lines were shown.
   */
  fun lines(
    prompt: String,
    labels: List<Int>,
    number: Int,
    seed: Int,
    settings: Settings,
    conditions: Conditions,
    show: (String, Boolean) -> Unit,
  ): Int {
    val seen = HashSet<String>()
    var shown = 0
    for (i in 0 until MOST_TRIES * number) {
      if (stopped || shown == number) break
      val line = normal(prompt) + drawn(prompt, labels, (seed + i) and Int.MAX_VALUE, settings)
      val new = known?.has(line, conditions.anyCase) == false
      if (line.isEmpty() || !fits(line, conditions) || (conditions.onlyNew && !new)) continue
      if (!seen.add(line)) continue
      show(line, new)
      shown++
    }
    return shown
  }

  /** Continues a text; `show` gets all that has been added to it, again and again. */
  fun text(prompt: String, labels: List<Int>, seed: Int, settings: Settings, show: (String) -> Unit) {
    var codes = IntArray(0)
    model.generate(start(prompt, labels), seed, settings) {
      codes += it
      show(decode(codes))
      !stopped
    }
  }

  private fun drawn(prompt: String, labels: List<Int>, seed: Int, settings: Settings): String {
    var codes = IntArray(0)
    model.generate(start(prompt, labels), seed, settings.copy(stop = Facts.START)) {
      codes += it
      !stopped
    }
    return decode(codes)
  }

  private fun fits(line: String, conditions: Conditions): Boolean =
    line.endsWith(normal(conditions.end), ignoreCase = true) &&
      line.codePointCount(0, line.length) in conditions.from..conditions.to &&
      conditions.banned.none { line.contains(normal(it), ignoreCase = true) }

  /** The start symbol, the labels and the prompt, as the model reads them. */
  private fun start(prompt: String, labels: List<Int>): IntArray =
    intArrayOf(Facts.START) + labels.toIntArray() + encode(prompt)

  private fun normal(text: String): String =
    Facts.NORMALIZE?.let { Normalizer.normalize(text, it) } ?: text

  private fun encode(text: String): IntArray =
    if (Facts.BYTES) normal(text).toByteArray().map { it.toInt() and 0xFF }.toIntArray()
    else normal(text).codePoints().toArray()

  private fun decode(codes: IntArray): String =
    if (Facts.BYTES) String(ByteArray(codes.size) { codes[it].toByte() })
    else String(codes, 0, codes.size)

  override fun close() = model.close()

  companion object {
    /** Lines that are drawn for each line that is wanted, before the list counts as complete. */
    const val MOST_TRIES = 200
  }
}
