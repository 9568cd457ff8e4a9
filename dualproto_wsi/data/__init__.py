"""Training images and their labels."""
