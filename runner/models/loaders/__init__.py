"""Loaders of models, by kind of file or function."""
