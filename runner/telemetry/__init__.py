"""What a running job measures, logs and shows."""
