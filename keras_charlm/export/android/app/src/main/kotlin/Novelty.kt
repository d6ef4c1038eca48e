package com.example.charlm

import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * Which lines are in the training text: their BLAKE2b fingerprints (RFC 7693, 8 bytes each) are
 * sorted in the file lines.bin.
 */
class KnownLines(content: ByteArray) {
  private val fingerprints =
    LongArray(content.size / 8).also {
      ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN).asLongBuffer().get(it)
      for (i in it.indices) it[i] = it[i] xor Long.MIN_VALUE // the order of unsigned numbers
    }

  val count
    get() = fingerprints.size

  /** Whether a line was in the training text; in any case, as it stands or in a usual case. */
  fun has(line: String, anyCase: Boolean): Boolean {
    if (has(line) || !anyCase) return has(line)
    val small = line.lowercase()
    val words = WORD_START.replace(small) { it.value.uppercase() }
    return setOf(small, words, small.replaceFirstChar { it.uppercase() }, line.uppercase()).any(::has)
  }

  private fun has(line: String): Boolean =
    fingerprints.binarySearch(fingerprint(line.toByteArray()) xor Long.MIN_VALUE) >= 0
}

/** BLAKE2b with a digest of 8 bytes, as a little-endian number. */
fun fingerprint(bytes: ByteArray): Long {
  val h = IV.copyOf()
  h[0] = h[0] xor 0x01010008
  val blocks = maxOf(1, (bytes.size + 127) / 128)
  for (block in 0 until blocks) {
    val end = minOf(128 * (block + 1), bytes.size)
    val data = ByteBuffer.wrap(bytes.copyOfRange(128 * block, end).copyOf(128))
    val m = LongArray(16).also { data.order(ByteOrder.LITTLE_ENDIAN).asLongBuffer().get(it) }
    val v = h + IV
    v[12] = v[12] xor end.toLong()
    if (block == blocks - 1) v[14] = v[14].inv()
    for (round in 0 until 12) {
      val order = SIGMA[round % 10]
      for ((i, at) in MIXED.withIndex()) {
        val (a, b, c, d) = at
        mix(v, a, b, c, d, m[order[2 * i].digitToInt(16)], 32, 24)
        mix(v, a, b, c, d, m[order[2 * i + 1].digitToInt(16)], 16, 63)
      }
    }
    for (i in 0 until 8) h[i] = h[i] xor v[i] xor v[i + 8]
  }
  return h[0]
}

private fun mix(v: LongArray, a: Int, b: Int, c: Int, d: Int, word: Long, first: Int, second: Int) {
  v[a] += v[b] + word
  v[d] = (v[d] xor v[a]).rotateRight(first)
  v[c] += v[d]
  v[b] = (v[b] xor v[c]).rotateRight(second)
}

private val WORD_START = Regex("(?<![\\p{L}\\p{M}])\\p{L}")

private val IV =
  longArrayOf(
    0x6a09e667f3bcc908, -0x4498517a7b3558c5, 0x3c6ef372fe94f82b, -0x5ab00ac5a0e2c90f,
    0x510e527fade682d1, -0x64fa9773d4c193e1, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179)

private val SIGMA =
  listOf(
    "0123456789abcdef", "ea489fd61c02b753", "b8c052fdae367194", "7931dcbe265a40f8",
    "905724afe1bc683d", "2c6a0b834d75fe19", "c51fed4a0763928b", "db7ec13950f4862a",
    "6fe9b308c2d714a5", "a2847615fb9e3cd0")

private val MIXED =
  listOf(
    listOf(0, 4, 8, 12), listOf(1, 5, 9, 13), listOf(2, 6, 10, 14), listOf(3, 7, 11, 15),
    listOf(0, 5, 10, 15), listOf(1, 6, 11, 12), listOf(2, 7, 8, 13), listOf(3, 4, 9, 14))
