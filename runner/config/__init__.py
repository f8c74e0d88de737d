"""Options: declarations, checks."""
