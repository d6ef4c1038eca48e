"""Sampling and scoring with the on-device file, without TensorFlow."""
