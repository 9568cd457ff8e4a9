"""Made-up cohorts of any size, and pictures like overlays."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from dualproto_wsi.stats.cohort.model import (
    Cohort,
    CohortPatient,
    CohortSlide,
    Comparison,
    Flag,
    Measure,
    Summary,
    Survival,
    Value,
)

MakeCohort = Callable[..., Cohort]

CLASSES = (("tumor", (200, 30, 40)), ("stroma", (60, 160, 90)), ("lymphocyte", (70, 80, 200)))

SOURCE = "Mesker et al., Cell Oncol 29:387, 2007, doi:10.1155/2007/175276"

MEASURES = (
    Measure("analysed_mm2", "Analysed tissue", "mm²", "All cells that are not 0.", "cells · cell area"),
    *(Measure(f"{n}_mm2", f"{n} area", "mm²", f"Cells of {n}.", "cells · cell area") for n, _ in CLASSES),
    *(
        Measure(f"{n}_fraction", f"{n} share of tissue", "1", f"Share of {n}.", f"{n}_mm2 / analysed_mm2",
                interval=True, main=n == "tumor")
        for n, _ in CLASSES
    ),
    Measure("tumor_stroma_ratio", "Tumor-stroma ratio, as stroma share", "1", "Stroma by tumor and stroma.",
            "stroma / (tumor + stroma)", SOURCE, interval=True, main=True),
    Measure("necrosis_fraction", "Necrosis share of tumor", "1", "No class has it.", "n / (t + n)", main=True),
    Measure("regions", "Regions", "1", "Connected regions.", "count"),
    Measure("median_region_um2", "Median region", "µm²", "Median area of a region.", "median"),
    Measure("border_mm_per_mm2", "Border length per area", "mm/mm²", "Length of borders.", "borders / analysed_mm2",
            main=True),
    Measure("mean_confidence", "Mean confidence", "1", "Mean of the best class's probability.", "mean"),
)  # fmt: skip


def _values(generator: np.random.Generator, tumor: float) -> dict[str, Value]:
    shares = generator.dirichlet(20 * np.array([tumor, 0.85 - tumor, 0.15])) * 0.97
    area = float(generator.lognormal(3.5, 0.7))
    values: dict[str, Value] = {"analysed_mm2": area, "necrosis_fraction": None}
    for (name, _), share in zip(CLASSES, shares.tolist(), strict=True):
        values |= {f"{name}_mm2": share * area, f"{name}_fraction": share}
        values |= {f"{name}_fraction_low": 0.8 * share, f"{name}_fraction_high": min(1.2 * share, 1.0)}
    ratio = float(shares[1] / (shares[0] + shares[1]))
    return values | {
        "tumor_stroma_ratio": ratio, "tumor_stroma_ratio_low": 0.9 * ratio, "tumor_stroma_ratio_high": 1.1 * ratio,
        "regions": int(generator.integers(40, 4000)), "median_region_um2": float(generator.lognormal(7, 1.5)),
        "border_mm_per_mm2": float(generator.normal(6, 1)), "mean_confidence": float(generator.beta(20, 5)),
    }  # fmt: skip


@pytest.fixture
def make_cohort() -> MakeCohort:
    """Make a cohort of ``n`` slides: every 10th failed, every 15th empty, three slides for two patients."""

    def make(n: int, groups: tuple[str, ...] = ("HER2 0", "HER2 low"), prefix: str = "slide") -> Cohort:
        generator = np.random.default_rng(n)
        slides, patients, flags = [], {}, []
        for i in range(n):
            patient = f"P-{i - i // 3:03d}"
            group = groups[(i - i // 3) % len(groups)] if groups else ""
            status = "failed" if i % 10 == 7 else "empty" if i % 15 == 11 else "done"
            tumor = 0.3 if not groups or group == groups[0] else 0.5
            values = _values(generator, tumor) if status == "done" else {}
            name = f"{prefix}-{i:03d}.svs"
            files = {"overlay": f"out/{name}/overlay.png", "folder": f"out/{name}", "record": f"out/{name}/record.json"}
            error = "cannot be decoded: truncated at 12 MB" if status == "failed" else ""
            slides.append(
                CohortSlide(f"k{i}", name, patient, group, status, values, files, {"block": f"B{i % 4}"}, error)
            )
            if status == "failed":
                flags.append(Flag(f"k{i}", "failed", "error", f"Not in the numbers: {error}."))
            elif status == "empty":
                flags.append(Flag(f"k{i}", "empty", "warning", "No tissue was found; is the slide blank?"))
            elif i % 9 == 4:
                flags.append(
                    Flag(f"k{i}", "low tissue", "warning", "Only 0.42 mm² of tissue; 1 mm² and more is usual.")
                )
            elif i % 8 == 5:
                flags.append(
                    Flag(f"k{i}", "outlier", "note", "Tumor share is 0.9; 0.1 to 0.7 is usual in this cohort.")
                )
            if status == "done":
                patients.setdefault(patient, []).append((f"k{i}", values, group))
        return Cohort(
            "Breast resections, first series",
            "2026-03-14T15:09:26+00:00",
            "compact-breast 1.0",
            CLASSES,
            tuple(slides),
            tuple(
                CohortPatient(name, rows[0][2], tuple(key for key, _, _ in rows), rows[0][1], {"age": "61"})
                for name, rows in patients.items()
            ),
            MEASURES if n else (),
            tuple(flags),
            "her2" if groups else "",
            _comparisons(groups) if n > 2 and groups else (),
            _survival(groups) if n > 2 and groups else None,
            ("Measures of patients are those of their slides, weighted by analysed area.",),
            _summaries(groups) if n > 2 else (),
        )

    return make


def _summaries(groups: tuple[str, ...]) -> tuple[Summary, ...]:
    return (
        Summary("tumor_fraction", "", 9, 0.412, 0.305, 0.533, 0.4, 0.3, 0.5),
        Summary("necrosis_fraction", "", 0, None, None, None, None, None, None),
        *(Summary("tumor_fraction", group, 2, None, None, None, 0.4, 0.3, 0.5) for group in groups),
    )


def _comparisons(groups: tuple[str, ...]) -> tuple[Comparison, ...]:
    few = f"Only 4 patients in {groups[0]}: take it as a hint."
    test, effect = "Mann-Whitney U", "Cliff's delta"
    counts, none = (4, 5), float("nan")
    return (
        Comparison("tumor_fraction", groups, counts, (0.31, 0.52), test, effect, -0.61, -0.9, -0.1, 0.004, 0.012, few),
        Comparison("tumor_stroma_ratio", groups, counts, (0.6, 0.4), test, effect, 0.2, -0.4, 0.7, 0.4, 0.6, few),
        Comparison("necrosis_fraction", groups, (0, 0), (none, none), test, effect, None, None, None, None, None, few),
    )


def _survival(groups: tuple[str, ...]) -> Survival:
    times = tuple((0.0, 4.0, 11.0, 19.0 + i, 40.0, 61.5) for i in range(len(groups)))
    shares = tuple(tuple(1 - step * (0.08 + 0.06 * i) for step in range(6)) for i in range(len(groups)))
    low = tuple(tuple(max(s - 0.06 * k, 0.0) for k, s in enumerate(row)) for row in shares)
    high = tuple(tuple(min(s + 0.05 * k, 1.0) for k, s in enumerate(row)) for row in shares)
    return Survival(groups, times, shares, low, high, tuple(20 + i for i in range(len(groups))), 0.031, "os_months")


@pytest.fixture(scope="session")
def overlay() -> bytes:
    """A PNG of 1100 × 900 px: glass, a pink disc, purple spots."""
    y, x = np.mgrid[:900, :1100]
    pixels = np.full((900, 1100, 3), 244, np.uint8)
    disc = (x - 550) ** 2 + (y - 450) ** 2 < 380**2
    pixels[disc] = (214, 150, 190)
    pixels[disc & (np.sin(x / 23) * np.sin(y / 19) > 0.6)] = (96, 60, 140)
    file = io.BytesIO()
    noisy = pixels.astype(np.int16) + np.random.default_rng(0).integers(-8, 8, pixels.shape)
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(file, "PNG", compress_level=1)
    return file.getvalue()
