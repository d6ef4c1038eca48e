"""The report of a trained model: a page with its scores, its training and its samples."""
