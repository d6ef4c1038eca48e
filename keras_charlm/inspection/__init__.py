"""A trained model and a text come in; what each cell does while it reads goes out, as a page."""
