"""Weights: read, matched by name, sent to all ranks."""
