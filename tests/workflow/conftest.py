"""Fixtures of the tests of whole runs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

TIMES = ("started", "seconds", "peak_memory_bytes", "command")
"""What may differ between two records of equal runs."""
SHARES = ("cores_used", "readers")
"""Part of `hardware` that depends on how many processes share a machine."""

Contents = Callable[[Path], dict[str, Any]]


def _content(path: Path) -> Any:
    if path.name == "record.json":
        record = json.loads(path.read_text(encoding="utf-8"))
        for name in SHARES:
            record["hardware"].pop(name)
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


def _tile(kinds: tuple[int, ...], generator: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return RGB and mask of a tile that shows one tissue, or two side by side."""
    y, x = np.mgrid[:side, :side]
    ground = np.array([[150, 90, 160], [230, 160, 195], [120, 100, 180], [200, 120, 130]])
    waves = [((x // 8) + (y // 8)) % 2, np.sin((x + 2 * y) / 3), (x % 6 < 3) | (y % 6 < 3), np.sin(y / 2)]
    pictures = [ground[kind] + 25 * np.asarray(waves[kind], float)[..., None] for kind in range(4)]
    left = x < side // 2
    mask = np.where(left, kinds[0], kinds[-1]).astype(np.uint8)
    picture = np.where(left[..., None], pictures[kinds[0]], pictures[kinds[-1]]) + generator.normal(
        0, 8, (side, side, 3)
    )
    return np.clip(picture, 0, 255).astype(np.uint8), mask


@pytest.fixture(scope="session")
def tiles(tmp_path_factory) -> Path:
    """A made-up data set in the layout of BCSS-WSSS: tiles of 60 px, not a multiple of any encoder's step."""
    root = tmp_path_factory.mktemp("tiles")
    generator = np.random.default_rng(0)
    kinds = [(0,), (1,), (2,), (3,), (0, 1), (2, 3), (1, 2), (0, 3)]
    for split, patients, count in (("train", range(12), 32), ("val", range(20, 24), 8), ("test", range(30, 34), 8)):
        for number in range(count):
            held = kinds[number % len(kinds)]
            pixels, mask = _tile(held, generator, 60)
            name = f"TCGA-AA-{patients[number % len(patients)]:04}-{number}"
            digits = "".join(str(int(kind in held)) for kind in range(4))
            if split == "train":
                _write_png(root / split / f"{name}[{digits}].png", pixels)
            else:
                _write_png(root / split / "img" / f"{name}.png", pixels)
                _write_png(root / split / "mask" / f"{name}.png", mask)
    return root


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
