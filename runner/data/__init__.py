"""Rows, predictions and tensors in memory."""
