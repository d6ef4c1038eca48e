"""The folder or file of a trained model: its content, reading and writing."""
