"""Export of a trained model for phones, servers and browsers, with a check of each export."""
