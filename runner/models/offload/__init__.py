"""Models larger than memory, whose layers are loaded and released as they are used."""
