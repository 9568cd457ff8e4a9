"""Regions ↔ GeoJSON that QuPath reads: writer, readers, and what features can be besides one region each."""

from dualproto_wsi.vector.geojson.output import SUFFIXES
from dualproto_wsi.vector.geojson.reader import read_features
from dualproto_wsi.vector.geojson.writer import GeoJsonWriter, Parts
from dualproto_wsi.vector.geojson.written import WrittenFeature, read_regions, read_written

__all__ = ["SUFFIXES", "GeoJsonWriter", "Parts", "WrittenFeature", "read_features", "read_regions", "read_written"]
