"""Models by kind of file or function."""
