from __future__ import annotations

import math
import uuid
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from dualproto_wsi.classes import UNSURE, UNSURE_CLASS, ClassScheme, TissueClass
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.geojson import GeoJsonWriter, read_features, read_regions
from dualproto_wsi.vector.geojson.squares import ANALYSED, SquareTally, score_name
from dualproto_wsi.vector.region import Region, share_name

SCHEME = ClassScheme((TissueClass(1, "Tumör – 肿瘤", (200, 0, 10)), TissueClass(2, "analysed", (0, 200, 0))))
ONE, TWO = SCHEME.names


def grid_of(labels: np.ndarray, x: float = 10.5, y: float = -3, scale: float = 4) -> LabelGrid:
    return LabelGrid(x, y, scale, 2.0, labels.shape[1], labels.shape[0])


def scores_of(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet((1, 1), labels.shape).transpose(2, 0, 1).astype(np.float32)


def squares(labels: np.ndarray, probabilities: np.ndarray, side: int, band: int, unsure: bool = True) -> list[Region]:
    tally = SquareTally(grid_of(labels), SCHEME, side, "slide", unsure=unsure)
    found = []
    for row in range(0, len(labels), band):
        found += tally.add(labels[row : row + band], probabilities[:, row : row + band])
    return found


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 25),
    columns=st.integers(1, 25),
    side=st.integers(1, 30),
    band=st.integers(1, 26),
    seed=st.integers(0, 1000),
)
def test_every_square_against_slices_of_the_map(rows: int, columns: int, side: int, band: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.choice(np.array([0, 0, 0, 0, 1, 2, UNSURE], np.uint8), (rows, columns))
    probabilities = scores_of(labels, seed)
    found = iter(squares(labels, probabilities, side, band))
    for row in range(0, rows, side):
        for column in range(0, columns, side):
            part = labels[row : row + side, column : column + side]
            inside = part > 0
            if not inside.any():
                continue
            square = next(found)
            counts = {1: (part == 1).sum(), 2: (part == 2).sum(), UNSURE: (part == UNSURE).sum()}
            assert square.tissue_class.id == max(counts, key=lambda k: (counts[k], -k))
            means = probabilities[:, row : row + side, column : column + side][:, inside].mean(axis=1, dtype=np.float64)
            assert square.measurements == {
                share_name(ONE): pytest.approx(counts[1] / inside.sum(), abs=5.1e-5),
                share_name(TWO): pytest.approx(counts[2] / inside.sum(), abs=5.1e-5),
                share_name(UNSURE_CLASS.name): pytest.approx(counts[UNSURE] / inside.sum(), abs=5.1e-5),
                score_name(ONE): pytest.approx(means[0], abs=5.1e-5),
                score_name(TWO): pytest.approx(means[1], abs=5.1e-5),
                ANALYSED: pytest.approx(inside.mean(), abs=5.1e-5),
            }
            box = shapely.Polygon(square.rings[0])
            assert box.bounds == (
                10.5 + 4 * column,
                -3 + 4 * row,
                10.5 + 4 * min(column + side, columns),
                -3 + 4 * min(row + side, rows),
            )
            assert box.area == part.size * 16
    assert next(found, None) is None


def test_bands_change_nothing() -> None:
    labels = np.random.default_rng(2).integers(0, 3, (50, 70), dtype=np.uint8)
    probabilities = scores_of(labels)
    one, two = (squares(labels, probabilities, 8, band) for band in (3, 50))
    assert [r.id for r in one] == [r.id for r in two]
    assert len({r.id for r in one}) == len(one) == 7 * 9
    assert [r.measurements for r in one] == [r.measurements for r in two]


def test_squares_come_as_soon_as_they_are_complete() -> None:
    labels = np.ones((10, 8), np.uint8)
    tally = SquareTally(grid_of(labels), SCHEME, 4)
    given_out = [len(tally.add(labels[i : i + 1], scores_of(labels)[:, i : i + 1])) for i in range(10)]
    assert given_out == [0, 0, 0, 2, 0, 0, 0, 2, 0, 2]


def test_without_unsure_there_is_no_share_of_it() -> None:
    labels = np.ones((2, 2), np.uint8)
    (square,) = squares(labels, scores_of(labels), 2, 2, unsure=False)
    assert list(square.measurements) == [share_name(ONE), share_name(TWO), score_name(ONE), score_name(TWO), ANALYSED]
    labels[0, 0] = UNSURE
    with pytest.raises(ValueError, match="label 255 is no class of the map"):
        squares(labels, scores_of(labels), 2, 2, unsure=False)


def test_ids_tell_sizes_and_slides_apart() -> None:
    labels = np.ones((4, 4), np.uint8)

    def ids(side: int, *namespace: str) -> set[str]:
        tally = SquareTally(grid_of(labels), SCHEME, side, *namespace)
        return {str(uuid.UUID(r.id)) for r in tally.add(labels, scores_of(labels))}

    assert len(ids(1, "a") | ids(2, "a") | ids(4, "a") | ids(1, "b")) == 16 + 4 + 1 + 16


def test_written_and_read_as_tiles(tmp_path: Path) -> None:
    labels = np.random.default_rng(2).integers(0, 3, (50, 70), dtype=np.uint8)
    found = squares(labels, scores_of(labels), 8, 50)
    path = tmp_path / "a.geojson.gz"
    with GeoJsonWriter(path, "tile") as writer:
        writer.write_all(found)
    for feature in read_features(path):
        assert feature["properties"]["objectType"] == "tile"
        assert feature["geometry"]["type"] == "Polygon"
        for name, value in feature["properties"]["measurements"].items():
            assert name.startswith("DualProto ")
            assert math.isfinite(value)
            assert 0 <= value <= 1
            assert round(value, 4) == value
    read = list(read_regions(path, SCHEME))
    assert [r.id for r in read] == [r.id for r in found]
    assert [r.measurements for r in read] == [r.measurements for r in found]
    assert [r.tissue_class for r in read] == [r.tissue_class for r in found]


def test_wrong_arrays_are_refused() -> None:
    labels = np.ones((4, 4), np.uint8)
    with pytest.raises(ValueError, match="squares of 0 cells; use 1 or more"):
        SquareTally(grid_of(labels), SCHEME, 0)
    tally = SquareTally(grid_of(labels), SCHEME, 2)
    for wrong in (labels[:, :3], labels.astype(np.int32), np.ones((5, 4), np.uint8), np.ones(4, np.uint8)):
        with pytest.raises(ValueError, match=r"the grid takes uint8 \(n, 4\), 4 rows more"):
            tally.add(wrong, scores_of(labels))
    for scores in (scores_of(labels)[:1], scores_of(labels)[:, :2], scores_of(labels).astype(np.float64)):
        with pytest.raises(ValueError, match=r"these labels need float32 \(2, 4, 4\)"):
            tally.add(labels, scores)
    labels[3, 1] = 3
    with pytest.raises(ValueError, match="label 3 is no class of the map"):
        tally.add(labels, scores_of(labels))
