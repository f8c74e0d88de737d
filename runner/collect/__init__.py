"""Predictions to the output, through rank 0 or by each rank."""
