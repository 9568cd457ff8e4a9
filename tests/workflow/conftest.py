"""Fixtures of the tests of whole runs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TIMES = ("started", "seconds", "peak_memory_bytes", "command")
"""What may differ between two records of equal runs."""

Contents = Callable[[Path], dict[str, Any]]


def _content(path: Path) -> Any:
    if path.name == "record.json":
        record = json.loads(path.read_text(encoding="utf-8"))
        return {name: value for name, value in record.items() if name not in TIMES}
    if path.name == "slides.csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    return path.read_bytes()


@pytest.fixture(scope="session")
def contents() -> Contents:
    """Return everything in an output folder by path, times aside."""

    def read(out: Path) -> dict[str, Any]:
        return {str(path.relative_to(out)): _content(path) for path in sorted(out.rglob("*")) if path.is_file()}

    return read


@pytest.fixture(scope="session")
def three_slides(tmp_path_factory, make_slide) -> Path:
    """A folder of three small slides."""
    folder = tmp_path_factory.mktemp("three slides")
    for name, side in (("a.tif", 300), ("b ü.tif", 500), ("c.tif", 360)):
        make_slide(folder / name, side, side)
    return folder


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, three_slides) -> Path:
    """The results of these slides, by a run that nothing disturbed."""
    from dualproto_wsi.settings import InferenceSettings, SegmentSettings
    from dualproto_wsi.workflow.segment import segment_slides

    out = tmp_path_factory.mktemp("undisturbed")
    outcomes = list(segment_slides([three_slides], out, SegmentSettings(inference=InferenceSettings(device="cpu"))))
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    return out
