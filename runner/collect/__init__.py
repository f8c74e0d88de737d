"""Collection of predictions into the output, through rank 0 or by each rank."""
