"""Trained models for other places: the on-device file."""
