"""Calls of a model: its arguments, from the rows and the model's signature."""
