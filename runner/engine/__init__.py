"""Work of one rank: chunks of rows through the model."""
