"""Training: from a text and settings to a model folder."""
