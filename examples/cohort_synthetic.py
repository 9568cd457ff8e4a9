"""Made-up results of `segment` whose composition is known, without a model: `dualproto-wsi cohort` from end to end.

    python examples/cohort_synthetic.py FOLDER [SLIDES]
    cd FOLDER
    dualproto-wsi cohort results --metadata patients.csv --by arm --time months --event died -o report

Each slide is a disc of stroma on glass, in it a disc of tumor with a core of necrosis, a spot of lymphocytes inside and
a ring of them around.
truth.csv tells the areas by formula; in the arm "treated" the ring is wider. One slide is empty, one has failed.
"""

from __future__ import annotations

import csv
import hashlib
import math
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.classes import NOT_ANALYSED, UNSURE, ClassScheme, TissueClass
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.settings import OutputSettings, SegmentSettings
from dualproto_wsi.vector.overlay import draw_overlay, save_png
from dualproto_wsi.workflow.batch import record
from dualproto_wsi.workflow.batch.fingerprint import Fingerprint, data_sha256, settings_sha256
from dualproto_wsi.workflow.batch.outcome import DONE, EMPTY, FAILED, SlideOutcome, SlideTable
from dualproto_wsi.workflow.mapping.job import wanted_files
from dualproto_wsi.workflow.mapping.outputs import MapFiles, SlideOutputs
from dualproto_wsi.workflow.stopwatch import Stopwatch

CLASSES = ClassScheme(
    tuple(
        TissueClass(number, name, colour)
        for number, (name, colour) in enumerate(
            {
                "Tumor": (200, 0, 0),
                "Stroma": (150, 200, 150),
                "Lymphocyte": (160, 90, 160),
                "Necrosis": (50, 50, 50),
            }.items(),
            start=1,
        )
    )
)
TUMOR, STROMA, LYMPHOCYTE, NECROSIS = 1, 2, 3, 4
MPP, CELL_UM = 0.5, 8.0


@dataclass(frozen=True)
class Discs:
    """A slide of discs around one centre, and a spot of lymphocytes in the tumor; radii in µm, from the inside out."""

    necrosis: float
    tumor: float
    lymphocytes: float
    stroma: float
    spot: float = 0.0

    def draw(self, cell_um: float = CELL_UM) -> NDArray[np.uint8]:
        """Return the label map: a cell has the label of its centre."""
        side = 2 * math.ceil((self.stroma + 200) / cell_um)
        place = (np.arange(side) + 0.5 - side / 2) * cell_um
        radius = np.hypot(place[:, None], place[None])
        labels = np.full((side, side), NOT_ANALYSED, np.uint8)
        for limit, label in (
            (self.stroma, STROMA),
            (self.lymphocytes, LYMPHOCYTE),
            (self.tumor, TUMOR),
            (self.necrosis, NECROSIS),
        ):
            labels[radius < limit] = label
        labels[np.hypot(place[:, None], place[None] - (self.necrosis + self.tumor) / 2) < self.spot] = LYMPHOCYTE
        return labels

    def mm2(self) -> dict[str, float]:
        """Return the area of each class by formula, mm²."""
        radii = (0.0, self.necrosis, self.tumor, self.lymphocytes, self.stroma)
        areas = [math.pi * (b * b - a * a) * 1e-6 for a, b in pairwise(radii)]
        found = dict(zip(("Necrosis", "Tumor", "Lymphocyte", "Stroma"), areas, strict=True))
        spot = math.pi * self.spot**2 * 1e-6
        return found | {"Tumor": found["Tumor"] - spot, "Lymphocyte": found["Lymphocyte"] + spot}


def write_result(
    out: Path,
    name: str,
    labels: NDArray[np.uint8],
    about: dict[str, str] | None = None,
    *,
    classes: ClassScheme = CLASSES,
    model: str = "made-up",
    cell_um: float = CELL_UM,
    probability: float = 0.9,
    confidence: bool = True,
    started: str = "2026-01-01T00:00:00+00:00",
) -> Path:
    """Write what `segment` would leave of a slide with this label map; return its folder.

    Every cell has the same probability of its class; the others share the rest. Maps without tissue are "empty".
    """
    folder, slide = out / name, out.parent / "slides" / name
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = labels.shape
    grid = LabelGrid(0.0, 0.0, cell_um / MPP, cell_um, columns, rows)
    unsure = 0.99 if (labels == UNSURE).any() else 0.0
    output = OutputSettings(confidence=confidence)
    settings = SegmentSettings(output=output)
    files = MapFiles(folder, name, (0.0, 0.0), name)
    with SlideOutputs(grid, classes, files, output, bool(unsure), Stopwatch()) as outputs:
        for top in range(0, rows, 256):
            band = labels[top : top + 256]
            outputs.append(band, _probabilities(band, len(classes), probability))
        outputs.finish()
    _draw(labels, classes, folder)
    card = {"name": model, "version": "1"}
    tally = outputs.tally
    outcome = SlideOutcome(
        slide=slide,
        folder=folder,
        status=DONE if tally.analysed_mm2 else EMPTY,
        tiles=1 if tally.analysed_mm2 else 0,
        regions=outputs.regions,
        mpp=MPP,
        mpp_source="option --mpp",
        analysed_mm2=tally.analysed_mm2,
        unsure_mm2=tally.unsure_mm2,
        mm2=tally.mm2(),
        fractions=tally.fractions(),
        about=about or {},
    )
    width, height = round(grid.box.width), round(grid.box.height)
    data = {
        "format": 1,
        "status": outcome.status,
        "started": started,
        "fingerprint": Fingerprint(
            hashlib.sha256(name.encode()).hexdigest(),
            "",
            data_sha256({"card": card}),
            settings_sha256(settings),
            "cpu",
            "fp32",
        ).to_json(),
        "slide": {
            "file": name,
            "path": outcome.row()["path"],
            "width": width,
            "height": height,
            "mpp": MPP,
            "mpp_source": outcome.mpp_source,
            "bounds": {"x": 0, "y": 0, "width": width, "height": height},
        },
        "about": outcome.about,
        "outputs": record.outputs_record(folder, wanted_files(name, output)),
        "frame": output.frame,
        "grid": {"columns": columns, "rows": rows, "scale_px": grid.scale, "cell_um": cell_um},
        "classes": classes.to_json(),
        "formats": list(output.formats),
        "regions": outcome.regions,
        "tiles": outcome.tiles,
        "tissue_mm2": tally.analysed_mm2,
        "analysed_mm2": tally.analysed_mm2,
        "unsure_mm2": tally.unsure_mm2,
        "mm2": outcome.mm2,
        "model": {"card": card},
        "settings": record.settings_record(settings),
        "seconds": {"total": 0.0},
    }
    record.write_json(folder / record.RECORD, data)
    SlideTable(out).add(outcome)
    return folder


def write_failure(out: Path, name: str, error: str, about: dict[str, str] | None = None) -> None:
    """Write what `segment` leaves of a slide that failed: its row."""
    out.mkdir(parents=True, exist_ok=True)
    SlideTable(out).add(SlideOutcome(out.parent / "slides" / name, None, FAILED, error=error, about=about or {}))


def _probabilities(labels: NDArray[np.uint8], classes: int, probability: float) -> NDArray[np.float32]:
    found = np.zeros((classes, *labels.shape), np.float32)
    found[:, labels != NOT_ANALYSED] = (1 - probability) / max(classes - 1, 1)
    for number in range(classes):
        found[number][(labels == number + 1) | ((labels == UNSURE) & (number == 0))] = probability
    return found


def _draw(labels: NDArray[np.uint8], classes: ClassScheme, folder: Path) -> None:
    picture = np.full((*labels.shape, 3), 244, np.uint8)
    picture[labels != NOT_ANALYSED] = (225, 180, 205)
    save_png(draw_overlay(picture, labels, list(classes), {}, folder.name), folder / record.OVERLAY)


def write_cohort(folder: Path, slides: int = 24, seed: int = 0) -> None:
    """Write results, a table of patients in two arms, and the truth; two slides a patient."""
    generator, out = np.random.default_rng(seed), folder / "results"
    patients, truth = {}, []
    for number in range(slides):
        patient = f"P{number // 2:03}"
        arm = "treated" if number // 2 % 2 else "control"
        tumor = float(generator.uniform(500, 900))
        ring = float(generator.uniform(40, 120)) + (90 if arm == "treated" else 0)
        core, spot = tumor * float(generator.uniform(0, 0.4)), float(generator.uniform(25, 55))
        discs = Discs(core, tumor, tumor + ring, tumor + ring + 500, spot)
        name = f"{patient}-{number % 2 + 1}.tif"
        write_result(out, name, discs.draw(), {"patient": patient}, probability=float(generator.uniform(0.7, 0.95)))
        truth.append(
            {"slide": name, "spot": f"{math.pi * spot**2 * 1e-6:.6g}"}
            | {name: f"{area:.6g}" for name, area in discs.mm2().items()}
        )
        months = generator.exponential(40 if arm == "treated" else 20)
        patients[patient] = (patient, arm, f"{min(months, 60):.1f}", str(int(months < 60)))
    write_result(out, "blank.tif", np.zeros((200, 300), np.uint8))
    write_failure(
        out, "unknown size.tif", "unknown size.tif: no pixel size in the file; pass --mpp (microns per pixel)"
    )
    with (folder / "patients.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("patient", "arm", "months", "died"), *patients.values()])
    with (folder / "truth.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(truth[0]))
        writer.writeheader()
        writer.writerows(truth)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit((__doc__ or "").strip())
    write_cohort(Path(sys.argv[1]), *map(int, sys.argv[2:]))
