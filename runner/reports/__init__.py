"""Records of a job made visible: the page, comparisons, the trace."""
