"""The command line of keras_charlm, installed as the import package `kcharlm`."""
