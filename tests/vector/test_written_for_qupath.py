"""Every kind of file that is written, as each version of QuPath reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dualproto_wsi.classes import UNSURE, ClassScheme, TissueClass
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.geojson import GeoJsonWriter
from dualproto_wsi.vector.geojson.merge import AnalysedArea, ClassMerger
from dualproto_wsi.vector.geojson.squares import SquareTally
from dualproto_wsi.vector.polygons import RegionTracer, TracedRegion
from dualproto_wsi.vector.qupath.contents import read_contents
from dualproto_wsi.vector.qupath.reading import read_as
from dualproto_wsi.vector.qupath.rules import READERS, Reader
from dualproto_wsi.vector.region import to_region

SCHEME = ClassScheme((TissueClass(1, "Tumör – 肿瘤", (200, 0, 10)), TissueClass(2, "Fat / 'x'", (0, 200, 0))))


def traced(labels: np.ndarray, probabilities: np.ndarray) -> list[TracedRegion]:
    tracer = RegionTracer(labels.shape[1], len(probabilities))
    return tracer.feed(labels, probabilities) + tracer.finish()


def write(path: Path, kind: str) -> tuple[int, float]:
    """Write a file; return how many objects it has and their area, px²."""
    noise = gaussian_filter(np.random.default_rng(5).standard_normal((90, 80)), 1.2)
    labels = np.array([0, 1, 2, UNSURE], np.uint8)[np.digitize(noise, np.quantile(noise, (0.3, 0.5, 0.8)))]
    probabilities = np.random.default_rng(0).dirichlet((1, 1), labels.shape).transpose(2, 0, 1).astype(np.float32)
    grid = LabelGrid(3.25, 8, 3.77, 2.0, *labels.shape[::-1])
    regions = traced(labels, probabilities)
    with GeoJsonWriter(path, "annotation" if kind == "merged" else kind, locked=kind == "detection") as writer:
        if kind == "tile":
            writer.write_all(SquareTally(grid, SCHEME, 100, "a", unsure=True).add(labels, probabilities))
            return 1, 90 * 80 * grid.scale**2
        if kind == "merged":
            merger = ClassMerger(writer, grid, SCHEME, "a")
            merger.add(regions)
            merger.finish()
        else:
            writer.write_all(to_region(region, grid, SCHEME, "a") for region in regions)
        outline = AnalysedArea(writer, grid, "a")
        outline.add(traced((labels > 0).astype(np.uint8), probabilities[:0]))
        outline.finish({c.name: 0.1 for c in SCHEME})
    return (3 if kind == "merged" else len(regions)) + 1, 2 * np.count_nonzero(labels) * grid.scale**2


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.version)
@pytest.mark.parametrize("kind", ["annotation", "detection", "tile", "merged"])
def test_it_is_read_whole_and_without_remarks(tmp_path: Path, kind: str, reader: Reader) -> None:
    count, area = write(tmp_path / "a.geojson", kind)
    reading = read_as(read_contents((tmp_path / "a.geojson").read_bytes()), reader)
    assert reading.refusal is None
    assert reading.losses == ()
    assert reading.warnings == ()
    assert len(reading.objects) == count
    assert all(o.valid and not o.rebuilt and not o.empty for o in reading.objects)
    assert sum(o.area for o in reading.objects) == pytest.approx(area, rel=1e-3)
