"""A label map with its polygons, as a run leaves them, to be exported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from dualproto_wsi.classes import UNSURE, ClassScheme, TissueClass
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.export import EXPORTERS, ExportSource
from dualproto_wsi.vector.geojson import GeoJsonWriter
from dualproto_wsi.vector.polygons import RegionTracer
from dualproto_wsi.vector.raster import RasterWriter
from dualproto_wsi.vector.region import to_region

CLASSES = ClassScheme(
    (
        TissueClass(1, "Tumor", (200, 0, 0)),
        TissueClass(2, "Stroma", (150, 200, 150)),
        TissueClass(3, "lymphocytes", (160, 90, 160)),
        TissueClass(4, "Fat \\ µ", (255, 255, 0)),
    )
)
OFFSET = (1000.0, 600.0)


@dataclass(frozen=True)
class Made:
    """What was made, and what it must tell."""

    source: ExportSource
    labels: np.ndarray
    folder: Path

    def export(self, kind: str) -> Path:
        path = self.folder / EXPORTERS[kind].file_name(self.source.slide)
        EXPORTERS[kind].write(self.source, path)
        return path


def random_labels(rows: int = 700, columns: int = 1100, seed: int = 0) -> np.ndarray:
    """Patches of all classes, of glass, and some unsure."""
    patches = np.random.default_rng(seed).integers(0, 5, (rows // 10, columns // 10), dtype=np.uint8)
    labels = cv2.resize(patches, (columns, rows), interpolation=cv2.INTER_NEAREST)
    labels[rows // 9 : rows // 5, columns // 9 : columns // 5] = UNSURE
    return labels


@pytest.fixture(scope="session")
def make_source() -> Callable[..., Made]:
    """Write a label map and its polygons."""

    def make(folder: Path, labels: np.ndarray | None = None, **changes) -> Made:
        labels = random_labels() if labels is None else labels
        grid = LabelGrid(*OFFSET, 8.0, 4.0, labels.shape[1], labels.shape[0])
        with RasterWriter(folder / "labels.tif", grid) as raster:
            raster.append(labels)
            raster.finish()
        tracer = RegionTracer(grid.columns, len(CLASSES))
        scores = np.full((len(CLASSES), *labels.shape), 0.25, np.float32)
        with GeoJsonWriter([folder / "ü.svs.geojson"], "annotation", OFFSET) as writer:
            traced = [*tracer.feed(labels, scores), *tracer.finish()]
            writer.write_all(to_region(region, grid, CLASSES, "it") for region in traced)
        source = ExportSource(
            **{
                "labels": folder / "labels.tif",
                "regions_file": folder / "ü.svs.geojson",
                "offset": OFFSET,
                "grid": grid,
                "classes": CLASSES,
                "slide": "ü.svs",
                "sha256": "ab" * 32,
                "width": 12_000,
                "height": 9_000,
                "mpp": 0.5,
                "model": "compact-breast",
                "model_sha256": "cd" * 32,
                "version": "0.1.0",
                "created": datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
            }
            | changes
        )
        return Made(source, labels, folder)

    return make


@pytest.fixture(scope="session")
def made(make_source, tmp_path_factory) -> Made:
    return make_source(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="session")
def empty(make_source, tmp_path_factory) -> Made:
    """Of a slide without tissue."""
    return make_source(tmp_path_factory.mktemp("empty"), np.zeros((60, 80), np.uint8))
