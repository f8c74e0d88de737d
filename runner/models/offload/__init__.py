"""Models larger than the memory: layers that come and go."""
