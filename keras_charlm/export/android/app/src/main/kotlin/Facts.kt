package com.example.charlm

import java.text.Normalizer

/** What belongs to the model in the app's assets: another export has other facts. */
object Facts {
  const val ABOUT = {{ about }}
  const val LINES = {{ lines }} // a list is generated line by line, another text is continued
  const val BYTES = {{ bytes }} // the model reads and writes bytes, not characters
  const val START = {{ start }} // the code that is read before every prompt
  val NORMALIZE: Normalizer.Form? = {{ normalize }}
  val LABELS: List<Label> =
    listOf(
{% for label in labels %}
      Label({{ label.column }}, {{ label.value }}, {{ label.code }}),
{% endfor %}
    )
}
