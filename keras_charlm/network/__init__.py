"""The Keras network from ids to logits, and sampling from logits."""
