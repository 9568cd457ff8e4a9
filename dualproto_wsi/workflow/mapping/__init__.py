"""One slide, from file to files."""
