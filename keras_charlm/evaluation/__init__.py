"""A trained model and a text come in; bits per character, and what they compare with, go out."""
