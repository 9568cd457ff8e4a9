"""Pixels in: slides, tissue, windows; no torch."""
