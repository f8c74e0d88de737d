"""Errors and helpers that know nothing of the rest."""
