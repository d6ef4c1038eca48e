"""The Keras network: its cells, layers and loss, and how a character is drawn from its logits."""
