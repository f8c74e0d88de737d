"""The unit of work: the partition of the rows into chunks, and the chunks of each rank."""
