"""What each cell of a trained model does while it reads a text, as data and as a page."""
