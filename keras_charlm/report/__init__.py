"""A trained model's folder comes in; a page on how good it is and how it came to be goes out."""
