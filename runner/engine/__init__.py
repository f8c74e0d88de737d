"""One rank's work: chunks of rows through the model."""
