"""The commands other than `predict`, one module or package each."""
