"""A text and the configurations come in; a trained model's folder goes out."""
