"""Regions ↔ GeoJSON that QuPath reads: writer, reader, and what features can be besides one region each."""

from dualproto_wsi.vector.geojson.output import SUFFIXES
from dualproto_wsi.vector.geojson.reader import read_features, read_regions
from dualproto_wsi.vector.geojson.writer import GeoJsonWriter, Parts

__all__ = ["SUFFIXES", "GeoJsonWriter", "Parts", "read_features", "read_regions"]
