"""Whole-slide pathology images in, tissue maps that QuPath opens and a cohort study can count out."""

__version__ = "0.1.0"
