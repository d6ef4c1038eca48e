"""The folder or file of a trained model: what it holds, and what opens it."""
