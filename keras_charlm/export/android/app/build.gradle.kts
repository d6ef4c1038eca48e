plugins {
  id("com.android.application")
  id("org.jetbrains.kotlin.android")
}

android {
  namespace = "com.example.charlm" // the Kotlin files' package
  compileSdk = 36

  defaultConfig {
    applicationId = "{{ app_id }}" // the app's name for stores and devices: choose your own
    minSdk = 24
    targetSdk = 36
    versionCode = 1
    versionName = "1.0"
  }

  compileOptions {
    sourceCompatibility = JavaVersion.VERSION_17
    targetCompatibility = JavaVersion.VERSION_17
  }

  androidResources { noCompress += "tflite" }
}

kotlin { jvmToolchain(17) }

dependencies { implementation("com.google.ai.edge.litert:litert:{{ litert }}") }
