"""Folders of Hugging Face Transformers."""
