// Runs the project's classes for a test. Each line of standard input is a call, its words divided
// by tabs; each answer is a line.
import android.content.res.AssetManager
import com.example.charlm.CharLM
import com.example.charlm.Conditions
import com.example.charlm.KnownLines
import com.example.charlm.Settings
import com.example.charlm.Writer
import com.example.charlm.fingerprint
import com.example.charlm.listing.restOfLine
import java.io.File

fun main(args: Array<String>) {
  val assets = AssetManager(File(args[0]))
  val lines = File(args[0], "lines.bin")
  val known = if (lines.exists()) KnownLines(lines.readBytes()) else null
  val writer = Writer(CharLM(assets), known)
  println("ready")
  while (true) {
    val words = (readlnOrNull() ?: return).split("\t")
    println(answer(assets, known, writer, words).replace("\n", "\\n"))
  }
}

fun answer(assets: AssetManager, known: KnownLines?, writer: Writer, words: List<String>): String =
  when (words[0]) {
    "fingerprint" -> fingerprint(words[1].toByteArray()).toString()
    "known" -> known!!.has(words[1], anyCase = words[2] == "any").toString()
    "unknown" -> writer.unknown(words[1]).joinToString(" ")
    "listing" -> restOfLine(assets, words[1], words[2].toInt())
    "lines" -> {
      val drawn = mutableListOf<String>()
      val settings = Settings(length = 30)
      val conditions =
        Conditions(words[4], words[5].toInt(), words[6].toInt(), words[7].split(","), words[8] == "new")
      writer.lines(words[1], listOf(), words[3].toInt(), words[2].toInt(), settings, conditions) {
        line, _ ->
        drawn += line
      }
      drawn.joinToString(",")
    }
    "text" -> {
      var text = ""
      val settings = Settings(length = 100, temperature = words[3].toFloat())
      try {
        writer.text(words[1], listOf(), words[2].toInt(), settings) { text = it }
        text
      } catch (error: IllegalArgumentException) {
        error.message!!
      }
    }
    else -> error("no call ${words[0]}")
  }
