from __future__ import annotations

import math
import uuid

import numpy as np
import pytest

from dualproto_wsi.classes import UNSURE, UNSURE_CLASS, ClassScheme, TissueClass
from dualproto_wsi.errors import SettingsError
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.polygons import RegionTracer
from dualproto_wsi.vector.region import AREA, MEAN_SCORE, RUNNER_UP, region_id, to_region

SCHEME = ClassScheme((TissueClass(1, "Tumour", (200, 0, 0)), TissueClass(2, "Stroma", (0, 200, 0))))
GRID = LabelGrid(x=100.5, y=-20, scale=7.25, cell_um=2.0, columns=3, rows=2)


def test_frame_and_measurements() -> None:
    tracer = RegionTracer(3, 2)
    labels = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
    probabilities = np.array([[[0, 0.9, 0.6], [0, 0, 0.75]], [[1, 0.1, 0.4], [1, 1, 0.25]]], np.float32)
    (traced,) = tracer.feed(labels, probabilities) + tracer.finish()
    region = to_region(traced, GRID, SCHEME, "slide", "model")
    assert region.tissue_class.name == "Tumour"
    ((shell,),) = region.polygons
    assert shell[0].tolist() == [100.5 + 7.25, -20]
    assert shell[1].tolist() == [100.5 + 3 * 7.25, -20]
    assert shell.dtype == np.float64
    assert region.rings == (shell,)
    assert region.measurements[AREA] == pytest.approx(3 * 4e-6, rel=1e-12)
    assert region.measurements[MEAN_SCORE] == pytest.approx(0.75)
    assert region.measurements[RUNNER_UP] == pytest.approx(0.25)
    assert region.id == region_id("slide", "model", label=1, row=0, column=1)


def test_names_do_not_collide_with_the_columns_of_qupath() -> None:
    for name in (AREA, MEAN_SCORE, RUNNER_UP):
        assert name.startswith("DualProto ")
        assert not name.startswith(("Area", "Num"))


def test_without_probabilities_or_other_class_there_is_no_score() -> None:
    for classes in (0, 1):
        tracer = RegionTracer(1, classes)
        (traced,) = tracer.feed(np.ones((1, 1), np.uint8), np.ones((classes, 1, 1), np.float32)) + tracer.finish()
        measurements = to_region(traced, GRID, SCHEME).measurements
        assert math.isnan(measurements[RUNNER_UP])
        assert math.isnan(measurements[MEAN_SCORE]) == (classes == 0)


def test_unsure_region_has_the_scores_of_its_two_strongest_classes() -> None:
    tracer = RegionTracer(3, 2)
    labels = np.full((1, 3), UNSURE, np.uint8)
    probabilities = np.array([[[0.5, 0.25, 0.375]], [[0.5, 0.75, 0.625]]], np.float32)
    (traced,) = tracer.feed(labels, probabilities) + tracer.finish()
    region = to_region(traced, GRID, SCHEME)
    assert region.tissue_class is UNSURE_CLASS
    assert region.measurements[MEAN_SCORE] == pytest.approx(0.625)
    assert region.measurements[RUNNER_UP] == pytest.approx(0.375)


def test_label_without_a_class_is_an_error() -> None:
    tracer = RegionTracer(1, 0)
    (traced,) = tracer.feed(np.full((1, 1), 9, np.uint8)) + tracer.finish()
    with pytest.raises(SettingsError, match="no class has the id 9"):
        to_region(traced, GRID, SCHEME)


def test_ids_are_uuids_and_differ_by_every_part() -> None:
    ids = [
        region_id("a", "b", label=1, row=2, column=3),
        region_id("ab", label=1, row=2, column=3),
        region_id("a", "b", label=2, row=2, column=3),
        region_id("a", "b", label=1, row=3, column=3),
        region_id("a", "b", label=1, row=2, column=4),
        region_id("a", "c", label=1, row=2, column=3),
        region_id("a", "b", label=1, row=23, column=3),
    ]
    assert len(set(ids)) == len(ids)
    assert all(str(uuid.UUID(i)) == i and uuid.UUID(i).version == 5 for i in ids)
    assert ids[0] == region_id("a", "b", label=1, row=2, column=3)
