"""Weights: reading, matching by name, distribution to all ranks."""
