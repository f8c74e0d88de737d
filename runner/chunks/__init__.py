"""The unit of work: the partition of the rows, and which rank takes what."""
