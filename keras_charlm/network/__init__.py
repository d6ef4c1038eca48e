"""A configuration comes in; a Keras network from ids to logits goes out, and draws from logits."""
