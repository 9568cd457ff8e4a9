from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualproto_wsi.vector.geojson.coordinates import batches, encode_polygons

SQUARE = np.array([[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]], np.float64)
NOWHERE = np.zeros(2)


@pytest.mark.parametrize(
    ("scale", "text"),
    [
        (1e6, b"[[[0,0],[4000000,0],[4000000,4000000],[0,4000000],[0,0]]]"),
        (2.501, b"[[[0,0],[10,0],[10,10],[0,10],[0,0]]]"),
        (0.625, b"[[[0,0],[2.5,0],[2.5,2.5],[0,2.5],[0,0]]]"),
        (2.5125, b"[[[0,0],[10.05,0],[10.05,10.05],[0,10.05],[0,0]]]"),
        (-0.0125, b"[[[0,0],[-0.05,0],[-0.05,-0.05],[0,-0.05],[0,0]]]"),
        (-2.556, b"[[[0,0],[-10.22,0],[-10.22,-10.22],[0,-10.22],[0,0]]]"),
    ],
)
def test_numbers_have_the_fewest_digits(scale: float, text: bytes) -> None:
    assert encode_polygons([(SQUARE * scale,)], NOWHERE) == [text]


def test_holes_and_several_polygons() -> None:
    hole = SQUARE[::-1] / 4 + 1
    texts = encode_polygons([(SQUARE, hole), (SQUARE + 9,)], np.array([-1.0, 0.5]))
    assert texts[0] == (b"[[[1,-0.5],[5,-0.5],[5,3.5],[1,3.5],[1,-0.5]],[[2,0.5],[2,1.5],[3,1.5],[3,0.5],[2,0.5]]]")
    assert texts[1:] == encode_polygons([(SQUARE + 9,)], np.array([-1.0, 0.5]))
    assert encode_polygons([], NOWHERE) == []


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-9e13, 9e13), st.floats(-1e4, 1e4)), min_size=3, max_size=20),
    st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
)
def test_text_is_the_rounded_number(points: list[tuple[float, float]], offset: tuple[float, float]) -> None:
    ring = np.array([*points, points[0]])
    expected = np.round(ring - offset, 2)
    if (np.ptp(expected, axis=0) < 0.005).any():
        return
    (text,) = encode_polygons([(ring,)], np.array(offset))
    assert np.array_equal(np.array(json.loads(text)[0]), expected)
    assert b"-0," not in text
    assert b"-0]" not in text


def test_batches_keep_the_order_and_are_bounded() -> None:
    cut = list(batches([40_000, 40_000, 1, 2, 90_000, 5], lambda size: size))
    assert cut == [[40_000, 40_000], [1, 2, 90_000], [5]]
    assert list(batches([], len)) == []
