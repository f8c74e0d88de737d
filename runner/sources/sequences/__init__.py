"""Sequences of biology."""
