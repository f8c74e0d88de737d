"""What people look at after a job: the page, comparisons, the trace."""
