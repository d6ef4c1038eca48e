// The part of Android's AssetManager that the app uses, over a folder.
package android.content.res

import java.io.File
import java.io.InputStream

class AssetManager(private val folder: File) {
  fun open(fileName: String): InputStream = File(folder, fileName).inputStream()
}
