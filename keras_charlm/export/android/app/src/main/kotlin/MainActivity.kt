package com.example.charlm

import android.app.Activity
import android.content.Intent
import android.os.Bundle
import android.text.InputType
import android.view.View
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.CheckBox
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.ScrollView
import android.widget.SeekBar
import android.widget.Spinner
import android.widget.TextView
import java.io.IOException
import java.util.concurrent.Executors
import kotlin.random.Random

/** The app's only screen: fields, a button that draws, and what was drawn. */
class MainActivity : Activity() {
  private val worker = Executors.newSingleThreadExecutor() // the model's thread
  private var writer: Writer? = null
  private var running = false
  private val drawn = mutableListOf<String>() // the lines on the screen

  private lateinit var column: LinearLayout
  private lateinit var prompt: EditText
  private lateinit var temperature: SeekBar
  private lateinit var number: EditText
  private lateinit var end: EditText
  private lateinit var from: EditText
  private lateinit var to: EditText
  private lateinit var ban: EditText
  private lateinit var length: EditText
  private lateinit var seed: EditText
  private lateinit var topK: EditText
  private lateinit var topP: EditText
  private lateinit var minP: EditText
  private lateinit var onlyNew: CheckBox
  private lateinit var anyCase: CheckBox
  private lateinit var go: Button
  private lateinit var status: TextView
  private lateinit var results: TextView
  private lateinit var share: Button
  private val labels = mutableListOf<Pair<Spinner, List<Label>>>()

  override fun onCreate(savedInstanceState: Bundle?) {
    super.onCreate(savedInstanceState)
    lay()
    worker.execute { open() }
  }

  override fun onDestroy() {
    writer?.stopped = true
    worker.execute { writer?.close() }
    worker.shutdown()
    super.onDestroy()
  }

  /** Loads the model, which takes a moment. */
  private fun open() {
    val known =
      try {
        assets.open("lines.bin").use { KnownLines(it.readBytes()) }
      } catch (_: IOException) {
        null // a model of no list
      }
    val opened =
      try {
        Writer(CharLM(assets), known)
      } catch (error: Exception) {
        runOnUiThread { status.text = "The model cannot be opened: ${error.message}" }
        return
      }
    runOnUiThread {
      writer = opened
      go.isEnabled = true
      if (Facts.LINES) draw() else status.text = "Ready."
    }
  }

  private fun lay() {
    column = LinearLayout(this)
    column.orientation = LinearLayout.VERTICAL
    val margin = (16 * resources.displayMetrics.density).toInt()
    column.setPadding(margin, margin, margin, margin)
    text(Facts.ABOUT)
    prompt = field(if (Facts.LINES) "Begins with" else "Your text", InputType.TYPE_CLASS_TEXT)
    if (!Facts.LINES) prompt.inputType = prompt.inputType or InputType.TYPE_TEXT_FLAG_MULTI_LINE
    layTemperature()
    for ((name, values) in Facts.LABELS.groupBy { it.column }) {
      text(name)
      val spinner = add(Spinner(this))
      val choices = listOf("any") + values.map { it.value }
      spinner.adapter = ArrayAdapter(this, android.R.layout.simple_spinner_dropdown_item, choices)
      labels += spinner to values
    }
    val count = InputType.TYPE_CLASS_NUMBER
    number = field("How many", count, "12", Facts.LINES)
    go = add(Button(this))
    go.text = if (Facts.LINES) "Invent" else "Continue"
    go.isEnabled = false
    go.setOnClickListener { if (running) writer?.stopped = true else draw() }
    status = text("Getting ready…")
    results = text("", Facts.LINES)
    results.setTextIsSelectable(true)
    share = add(Button(this))
    share.text = "Share"
    share.setOnClickListener { share() }

    val plain = InputType.TYPE_CLASS_TEXT
    val decimal = count or InputType.TYPE_NUMBER_FLAG_DECIMAL
    end = field("Ends with", plain, "", Facts.LINES)
    from = field("Characters, from", count, "", Facts.LINES)
    to = field("Characters, to", count, "", Facts.LINES)
    ban = field("Never draw, separated by commas", plain, "", Facts.LINES)
    onlyNew = add(CheckBox(this), Facts.LINES)
    onlyNew.text = "Only new ones"
    anyCase = add(CheckBox(this), Facts.LINES)
    anyCase.text = "Ignore case"
    length = field("At most, characters", count, if (Facts.LINES) "100" else "500")
    seed = field("Seed; empty for a new one each time", count)
    topK = field("Top-k, 0 for all", count, "0")
    topP = field("Top-p", decimal, "1")
    minP = field("Min-p", decimal, "0")

    val scroll = ScrollView(this)
    scroll.fitsSystemWindows = true
    scroll.addView(column)
    setContentView(scroll)
  }

  private fun layTemperature() {
    val name = text("")
    temperature = add(SeekBar(this))
    temperature.max = 40
    temperature.setOnSeekBarChangeListener(
      object : SeekBar.OnSeekBarChangeListener {
        override fun onProgressChanged(bar: SeekBar, progress: Int, fromUser: Boolean) {
          name.text = "Temperature ${progress / 20f}"
        }

        override fun onStartTrackingTouch(bar: SeekBar) {}

        override fun onStopTrackingTouch(bar: SeekBar) {}
      })
    temperature.progress = 16
  }

  /** Adds a view to the column. Its id is its number there, so that Android can restore its text. */
  private fun <V : View> add(view: V, shown: Boolean = true): V {
    view.id = column.childCount + 1
    view.visibility = if (shown) View.VISIBLE else View.GONE
    column.addView(view)
    return view
  }

  private fun text(content: String, shown: Boolean = true): TextView {
    val view = add(TextView(this), shown)
    view.text = content
    return view
  }

  private fun field(name: String, type: Int, value: String = "", shown: Boolean = true): EditText {
    val label = text(name, shown)
    val view = add(EditText(this), shown)
    label.labelFor = view.id
    view.inputType = type
    view.setText(value)
    return view
  }

  /** The number in a field, or null after showing what is wrong with it. */
  private fun number(field: EditText, low: Double, high: Double, empty: Double? = null): Double? {
    val content = field.text.toString()
    val value = if (content.isEmpty()) empty else content.toDoubleOrNull()
    if (value != null && value in low..high) return value
    field.error = "A number from ${shown(low)} to ${shown(high)} is needed."
    field.requestFocus()
    return null
  }

  private fun shown(value: Double): String =
    if (value % 1 == 0.0) value.toLong().toString() else value.toString()

  private fun settings(): Settings? {
    return Settings(
      length = number(length, 1.0, 100_000.0)?.toInt() ?: return null,
      temperature = temperature.progress / 20f,
      topK = number(topK, 0.0, 1e6)?.toInt() ?: return null,
      topP = number(topP, 0.01, 1.0)?.toFloat() ?: return null,
      minP = number(minP, 0.0, 1.0)?.toFloat() ?: return null,
    )
  }

  private fun conditions(): Conditions? {
    return Conditions(
      end = end.text.toString().trim(),
      from = number(from, 0.0, 1000.0, 0.0)?.toInt() ?: return null,
      to = number(to, 1.0, 1000.0, 1000.0)?.toInt() ?: return null,
      banned = ban.text.toString().split(",").map { it.trim() }.filter { it.isNotEmpty() },
      onlyNew = onlyNew.isChecked,
      anyCase = anyCase.isChecked,
    )
  }

  private fun draw() {
    val writer = writer ?: return
    val begin = prompt.text.toString()
    val unknown = writer.unknown(begin)
    if (unknown.isNotEmpty()) {
      prompt.error = "The model has never seen ${unknown.joinToString(" ")}"
      prompt.requestFocus()
      return
    }
    val settings = settings() ?: return
    val conditions = conditions() ?: return
    val many = number(number, 1.0, 1000.0)?.toInt() ?: return
    val random = Random.nextInt(Int.MAX_VALUE)
    val first = number(seed, 0.0, 2147483647.0, random.toDouble())?.toInt() ?: return
    val codes = labels.mapNotNull { (view, all) -> all.getOrNull(view.selectedItemPosition - 1)?.code }
    showStart()
    worker.execute {
      val said =
        try {
          if (Facts.LINES) list(writer, begin, codes, many, first, settings, conditions)
          else pad(writer, begin, codes, first, settings)
        } catch (error: Exception) {
          "The model stopped: ${error.message}"
        }
      runOnUiThread { showEnd(said) }
    }
  }

  /** Lists lines; returns what the status line says. */
  private fun list(
    writer: Writer, begin: String, codes: List<Int>, many: Int, seed: Int, settings: Settings,
    conditions: Conditions,
  ): String {
    var fresh = 0
    val count =
      writer.lines(begin, codes, many, seed, settings, conditions) { line, new ->
        if (new) fresh++
        runOnUiThread {
          drawn += line
          results.append(if (new) "$line •\n" else "$line\n")
        }
      }
    val end = if (count < many && !writer.stopped) " There seem to be no more." else ""
    return "$count invented, $fresh new (•). Seed $seed.$end"
  }

  /** Continues the text on the writing pad; returns what the status line says. */
  private fun pad(
    writer: Writer, begin: String, codes: List<Int>, seed: Int, settings: Settings,
  ): String {
    writer.text(begin, codes, seed, settings) { added ->
      runOnUiThread {
        prompt.setText(begin + added)
        prompt.setSelection(prompt.text.length)
      }
    }
    return "Seed $seed."
  }

  private fun showStart() {
    running = true
    writer?.stopped = false
    go.text = "Stop"
    drawn.clear()
    results.text = ""
    status.text = "Writing…"
  }

  private fun showEnd(said: String) {
    running = false
    go.text = if (Facts.LINES) "Invent" else "Continue"
    status.text = said
  }

  private fun share() {
    val product = if (Facts.LINES) drawn.joinToString("\n") else prompt.text.toString()
    val intent = Intent(Intent.ACTION_SEND).setType("text/plain").putExtra(Intent.EXTRA_TEXT, product)
    startActivity(Intent.createChooser(intent, null))
  }
}
