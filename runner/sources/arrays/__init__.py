"""Arrays in files and in memory."""
