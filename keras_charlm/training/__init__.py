"""A text and its settings come in; a trained model's folder goes out."""
