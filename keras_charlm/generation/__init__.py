"""An on-device file and a prompt come in; drawn texts and scores go out. TensorFlow is not needed."""
