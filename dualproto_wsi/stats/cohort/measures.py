"""The measures: what each is, which areas and lengths it is made of, and where its definition comes from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.stats.cohort import quantities as q
from dualproto_wsi.stats.cohort.definitions import (
    LYMPHOCYTE,
    NECROSIS,
    STROMA,
    TUMOR,
    Definitions,
    column_names,
)
from dualproto_wsi.stats.cohort.formula import COUNT, Formula
from dualproto_wsi.stats.cohort.model import Measure
from dualproto_wsi.stats.cohort.quantities import Quantities

MESKER = "Mesker et al., Cell Oncol 29:387, 2007, doi:10.1155/2007/175276; van Pelt et al., Virchows Arch 473:405, 2018, doi:10.1007/s00428-018-2408-z"  # noqa: E501
SALGADO = "Salgado et al., Ann Oncol 26:259, 2015, doi:10.1093/annonc/mdu450, for the concept"
HENDRY = "Hendry et al., Adv Anat Pathol 24:235, 2017, doi:10.1097/PAP.0000000000000162, for the concept"
MALEY = "Maley et al., Breast Cancer Res 17:131, 2015, doi:10.1186/s13058-015-0638-4; Horn, Am Nat 100:419, 1966, doi:10.1086/282436"  # noqa: E501
CROFTON = "Lehmann & Legland, Insight Journal, 2012, hal-02811118"


def list_formulas(definitions: Definitions) -> list[Formula]:
    """Return every measure, in the order of the columns."""
    return [
        *_areas(definitions),
        *_compartments(definitions),
        *_margin(definitions),
        *_borders(definitions),
        *_regions(definitions),
        _confidence(),
    ]


def _areas(definitions: Definitions) -> list[Formula]:
    said = "Analysed tissue: all cells of the label map that are not 0; glass, pen and what was left out do not count."
    formulas = [Formula(Measure("analysed_mm2", "Analysed tissue", "mm²", said, "cells · cell area"), (q.ANALYSED,))]
    names = list(zip(definitions.classes.names, column_names(definitions.classes), strict=True))
    for name, column in names:
        measure = Measure(f"{column}_mm2", f"{name} area", "mm²", f"Cells of the class {name}.", "cells · cell area")
        formulas.append(Formula(measure, (q.class_area(name),)))
    plain = {i for role, i in definitions.roles.items() if role != NECROSIS}  # those have measures of their own
    for k, (name, column) in enumerate(names):
        measure = Measure(
            f"{column}_fraction",
            f"{name} share of tissue",
            "1",
            f"Share of the class {name} in the analysed tissue.",
            f"{column}_mm2 / analysed_mm2",
            interval=True,
            main=k + 1 not in plain or k + 1 == definitions.roles.get(TUMOR),
        )
        formulas.append(Formula(measure, (q.class_area(name),), (q.ANALYSED,)))
    unsure = Measure(
        "unsure_fraction",
        "Unsure share of tissue",
        "1",
        "Share of analysed tissue whose best class is below the confidence asked for; 0 where none was asked for.",
        "unsure cells / analysed cells",
        interval=True,
    )
    return [*formulas, Formula(unsure, (q.UNSURE,), (q.ANALYSED,))]


def _compartments(definitions: Definitions) -> list[Formula]:
    tumor, stroma, cell, dead = (definitions.name_of(role) for role in (TUMOR, STROMA, LYMPHOCYTE, NECROSIS))
    t, s, n = (q.class_area(name) for name in (tumor, stroma, dead))
    dead_too = f" and {dead}" if NECROSIS in definitions.roles else ""
    body = (
        f"The tumor body: regions of {tumor}{dead_too} together from {definitions.front_mm2:g} mm² on, enclosed gaps "
        "below that area filled."
    )
    return [
        Formula(
            Measure(
                "tumor_stroma_ratio",
                "Tumor-stroma ratio, as stroma share",
                "1",
                f"Area of {stroma} by that of {tumor} and {stroma}, all over the slide; the published score is the "
                "visual percentage in one field, and high from 0.5 on.",
                f"{stroma} / ({tumor} + {stroma})",
                MESKER,
                interval=True,
                main=True,
            ),
            (s,),
            (t, s),
            (TUMOR, STROMA),
        ),
        Formula(
            Measure(
                "stromal_lymphocyte_fraction",
                "Lymphocyte share of stroma",
                "1",
                f"Share of {cell} in {cell} and {stroma} outside the tumor body. An area of a label map, not the "
                f"visual score of stromal TILs. {body}",
                f"{cell} outside / ({cell} outside + {stroma} outside)",
                SALGADO,
                interval=True,
                main=True,
            ),
            (q.LYMPHOCYTE_OUT,),
            (q.LYMPHOCYTE_OUT, q.STROMA_OUT),
            (TUMOR, STROMA, LYMPHOCYTE),
        ),
        Formula(
            Measure(
                "intratumoral_lymphocyte_fraction",
                "Lymphocyte share of tumor",
                "1",
                f"Share of {cell} in {cell} and {tumor} inside the tumor body. An area of a label map, not a count of "
                f"intratumoral TILs. {body}",
                f"{cell} inside / ({cell} inside + {tumor} inside)",
                SALGADO,
                interval=True,
                main=True,
            ),
            (q.LYMPHOCYTE_IN,),
            (q.LYMPHOCYTE_IN, q.IN_TUMOR),
            (TUMOR, LYMPHOCYTE),
        ),
        Formula(
            Measure(
                "necrosis_of_tumor_fraction",
                "Necrosis share of tumor",
                "1",
                f"Area of {dead} by that of {tumor} and {dead}.",
                f"{dead} / ({tumor} + {dead})",
                interval=True,
                main=True,
            ),
            (n,),
            (t, n),
            (TUMOR, NECROSIS),
        ),
    ]


def _margin(definitions: Definitions) -> list[Formula]:
    bands, widest = definitions.bands(), definitions.margins_um[-1]
    cell = definitions.name_of(LYMPHOCYTE)
    needs = (TUMOR, LYMPHOCYTE)
    front = (
        "The tumor front is the border between the tumor body and other analysed tissue, not glass; distances are "
        "Euclidean, across whatever lies between, and right to half a cell."
    )
    both = [q.margin_area(side, k) for side in ("in", "out") for k in range(len(bands))]
    lymphocytes = [q.margin_area(side, k, lymphocyte=True) for side in ("in", "out") for k in range(len(bands))]
    zone = f"within {widest:g} µm of the tumor front on both sides"
    area = Measure(
        "margin_mm2", "Invasive margin", "mm²", f"Analysed tissue {zone}. {front}", "cells · cell area", HENDRY
    )
    share = Measure(
        "margin_lymphocyte_fraction",
        "Lymphocyte share of the invasive margin",
        "1",
        f"Share of {cell} in the analysed tissue {zone}. {front}",
        f"{cell} there / margin_mm2",
        HENDRY,
        interval=True,
        main=True,
    )
    formulas = [Formula(area, tuple(both), (), (TUMOR,)), Formula(share, tuple(lymphocytes), tuple(both), needs)]
    for side, where in (("in", "inside"), ("out", "outside")):
        for k, (low, high) in enumerate(bands):
            measure = Measure(
                f"margin_{side}_{low:g}_{high:g}um_lymphocyte_fraction",
                f"Lymphocyte share {low:g}-{high:g} µm {where} the front",
                "1",
                f"Share of {cell} in the analysed tissue over {low:g} and up to {high:g} µm {where} the tumor front.",
                f"{cell} there / analysed there",
                HENDRY,
                interval=True,
            )
            formulas.append(
                Formula(measure, (q.margin_area(side, k, lymphocyte=True),), (q.margin_area(side, k),), needs)
            )
    return formulas


def _borders(definitions: Definitions) -> list[Formula]:
    said = (
        "Cauchy-Crofton in four directions, which corrects for the staircase of cells: 5.2 % too short to 2.6 % too "
        "long for a straight border, right for borders of all directions alike."
    )
    tumor, cell = definitions.name_of(TUMOR), definitions.name_of(LYMPHOCYTE)
    all_borders = Measure(
        "border_mm_per_mm2",
        "Border length per area",
        "mm/mm²",
        f"Length of all borders between two classes per analysed area. {said}",
        "borders / analysed_mm2",
        CROFTON,
        interval=True,
        main=True,
    )
    of_tumor = Measure(
        "tumor_border_mm_per_mm2",
        "Tumor border per tumor area",
        "mm/mm²",
        f"Length of the borders between {tumor} and other classes per area of {tumor}. {said}",
        f"borders of {tumor} / area of {tumor}",
        CROFTON,
        interval=True,
    )
    mixing = Measure(
        "tumor_lymphocyte_morisita_horn",
        f"Mixing of {tumor} and {cell}",
        "1",
        f"Morisita-Horn index of the areas of {tumor} and {cell} on squares of about {definitions.square_um:g} µm "
        "(whole cells): 0 never in the same square, 1 in equal proportion in each. Published on counts of cells; here "
        "on areas.",
        f"2 Σ t l / (T L) / (Σ t² / T² + Σ l² / L²); t, l: areas of {tumor} and {cell} in a square, T, L: their sums",
        MALEY,
        main=True,
    )
    return [
        Formula(all_borders, (q.BORDER,), (q.ANALYSED,)),
        Formula(of_tumor, (q.TUMOR_BORDER,), (q.class_area(tumor),), (TUMOR,)),
        Formula(mixing, needs=(TUMOR, LYMPHOCYTE), compute=_morisita_horn),
    ]


def _morisita_horn(found: Quantities) -> float:
    columns = [found.names.index(name) for name in q.MIXING]
    t, cells, tt, ll, tl = found.blocks[:, columns].sum(0).tolist()
    if not (t and cells):
        return float("nan")
    return float(2 * tl / (t * cells) / (tt / t**2 + ll / cells**2))


def _regions(definitions: Definitions) -> list[Formula]:
    formulas = []
    sizes = {
        "q1": ("Lower quartile", 0.25),
        "median": ("Median", 0.5),
        "q3": ("Upper quartile", 0.75),
        "largest": ("Largest", 1.0),
    }
    for k, (name, column) in enumerate(zip(definitions.classes.names, column_names(definitions.classes), strict=True)):
        said = f"Regions of {name}: cells of the class that share an edge."
        count = Measure(f"{column}_regions", f"{name} regions", COUNT, said, "number of regions")
        formulas.append(Formula(count, compute=lambda found, k=k: float(len(found.regions[k]))))  # type: ignore[misc]
        for key, (title, at) in sizes.items():
            measure = Measure(
                f"{column}_region_{key}_mm2",
                f"{title} {name} region",
                "mm²",
                f"{title} of the areas of the regions of {name}, each counted once; of a patient: of all slides.",
                f"quantile {at:g} of the regions' areas",
            )
            formulas.append(Formula(measure, compute=lambda found, k=k, at=at: _quantile(found.regions[k], at)))  # type: ignore[misc]
    return formulas


def _quantile(areas: NDArray[np.float64], at: float) -> float:
    return float(np.quantile(areas, at)) if len(areas) else float("nan")


def _confidence() -> Formula:
    measure = Measure(
        "mean_confidence",
        "Mean confidence",
        "1",
        "Mean probability of the class that was chosen: over the cells of confidence.tif; without one, over the scores "
        "of the regions in the GeoJSON, weighted by their areas.",
        "Σ probability · area / Σ area",
    )
    return Formula(measure, compute=lambda found: _share(*found.confidence))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
