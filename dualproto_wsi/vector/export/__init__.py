"""A slide's results once more, in files that other programs read: OME-TIFF, DICOM SEG, AnnotationStore, GeoParquet."""

from dualproto_wsi.vector.export.kinds import EXPORTERS, Exporter, require_packages
from dualproto_wsi.vector.export.source import ExportSource

__all__ = ["EXPORTERS", "ExportSource", "Exporter", "require_packages"]
