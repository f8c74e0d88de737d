"""Tables, lines of text, databases."""
