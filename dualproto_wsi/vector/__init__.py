"""Scores in, polygons out; no torch."""
