"""Images and tar files."""
