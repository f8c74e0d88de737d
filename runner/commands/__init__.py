"""One command each, beside `predict`."""
