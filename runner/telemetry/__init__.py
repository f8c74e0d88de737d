"""Measurements, logs and displays of a running job."""
