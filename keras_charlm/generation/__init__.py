"""An on-device file and a prompt come in; drawn texts and scores go out, without TensorFlow."""
