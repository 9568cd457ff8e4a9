from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.check.squares import square_problems
from dualproto_wsi.vector.geojson.squares import ANALYSED, SquareTally, score_name
from dualproto_wsi.vector.region import Region, share_name

SCHEME = ClassScheme((TissueClass(1, "A", (1, 0, 0)), TissueClass(2, "B", (2, 0, 0))))
GRID = LabelGrid(5.5, -3, 3.7, 2, 11, 7)
LABELS = np.random.default_rng(3).integers(0, 3, GRID.shape, np.uint8)


def squares() -> list[Region]:
    scores = np.broadcast_to(np.float32([0.75, 0.25])[:, None, None], (2, *GRID.shape))
    return SquareTally(GRID, SCHEME, 4).add(LABELS, np.ascontiguousarray(scores))


def measured(region: Region, **values: Any) -> Region:
    names = {"share": share_name("A"), "score": score_name("B"), "analysed": ANALYSED}
    return replace(region, measurements={**region.measurements, **{names[key]: v for key, v in values.items()}})


def test_squares_of_the_map_have_no_problems() -> None:
    assert list(square_problems(squares(), LABELS, GRID, SCHEME, 4)) == []


def test_a_square_too_few() -> None:
    assert list(square_problems(squares()[1:], LABELS, GRID, SCHEME, 4)) == [
        "5 squares; the label map has 6 with analysed cells"
    ]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: replace(s, polygons=((s.rings[0] + 0.02,),)), "lies at [5.52, -2.98], not at [5.5, -3.0]"),
        (lambda s: replace(s, polygons=((s.rings[0][:-1],),)), "is no square"),
        (lambda s: replace(s, polygons=((s.rings[0], s.rings[0]),)), "is no square"),
        (lambda s: replace(s, tissue_class=SCHEME.by_id(3 - s.tissue_class.id)), ", its cells are "),
        (lambda s: measured(s, share=0.999), "its 'DualProto A share' is 0.999, its cells have "),
        (lambda s: measured(s, analysed=np.nan), "its 'DualProto share analysed' is nan, its cells have "),
        (lambda s: measured(s, score=0.26), "its scores are [0.75, 0.26]; they are shares of 1"),
        (lambda s: measured(s, score=-0.1), "its scores are [0.75, -0.1]; they are shares of 1"),
        (lambda s: measured(s, score=np.nan), "its scores are [0.75, nan]; they are shares of 1"),
    ],
)
def test_a_changed_square_is_found(change: Any, text: str) -> None:
    first, *rest = squares()
    found = list(square_problems([change(first), *rest], LABELS, GRID, SCHEME, 4))
    assert len(found) == 1
    assert found[0].startswith(f"square {first.id}: ")
    assert text in found[0]
