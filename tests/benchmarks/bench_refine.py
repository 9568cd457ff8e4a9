"""What does boundary refinement do, and what does it cost? One table.

On parts of real slides, mapped by the built-in model, and on images with labelled nuclei:

    python tests/benchmarks/bench_refine.py [SHARED] [--parts 3] [--images 10]

SHARED is the folder of development data (default ../shared).

changed     share of analysed cells that get another label
= crf       share that get pydensecrf's label, the whole part at once, same parameters: all parts, and the worst
seam        share that change when the part is refined in tiles of 256 cells, by halo, cells
ms/window   process time for each window of 448 px that the model scores at the default overlap; model: its own
discs       share of discs of radius r µm that keep most of their cells; the model gives them 0.7, colour differs by 12
            (faint) or 60 (clear) levels of 255 from their surroundings, colours have a noise of 10 levels
regions     share of the model's own regions of 20 to 500 cells (80 to 2000 µm²) that keep most of their cells
edge        mean colour step under label borders, relative to that of all neighbouring cells
nuclei      share of labelled nuclei of BRCA-M2C whose class the label map gives
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy import ndimage

from dualproto_wsi.data.layouts import read_dataset
from dualproto_wsi.geometry import Box, LabelGrid
from dualproto_wsi.model.checkpoint import load_model
from dualproto_wsi.settings import InferenceSettings, ReadSettings, RefineSettings, TilingSettings, TissueSettings
from dualproto_wsi.slide.reader import open_slide
from dualproto_wsi.slide.tiling import plan_tiles
from dualproto_wsi.slide.tissue import find_tissue
from dualproto_wsi.vector.mosaic import ScoreMosaic
from dualproto_wsi.workflow.mapping.engine import Engine
from dualproto_wsi.workflow.mapping.refine import BandRefiner, build_refiner
from dualproto_wsi.workflow.training.windows import pad, to_tensor

PARTS = (
    ("breast-lobular-carcinoma-20x.tif", None, (22720, 1984)),
    ("CMU-1-Small-Region.svs", None, (0, 256)),
    ("tcga-cr-7395-01a-01-ts1.svs", 0.25, (0, 0)),
)
"""Slide, µm per px where the file does not say it, and (x, y) of a part of 1024 µm, µm."""

HALOS = (16, 32, 64)
DISC_RADII = (2, 4, 8, 16)  # cells
STRIDE_PX, CELL_UM = 4, 2.0
CPU = torch.device("cpu")


@dataclass
class Part:
    """A score map with colours."""

    probabilities: np.ndarray
    analysed: np.ndarray
    colours: np.ndarray
    landmark_colours: np.ndarray
    windows: int = 1
    model_s: float = 0.0


def map_part(engine: Engine, path: Path, mpp: float | None, corner_um: tuple[float, float]) -> Part:
    """Map a part of a slide with the built-in model at the default overlap."""
    model = engine.model
    with open_slide(path, ReadSettings(mpp)) as reader:
        mpp = reader.info.require_mpp()
        tissue = find_tissue(reader, TissueSettings(), mpp)
        box = Box(corner_um[0] / mpp, corner_um[1] / mpp, 1024 / mpp, 1024 / mpp).intersection(reader.info.content)
        grid = LabelGrid.over(box, mpp, CELL_UM)
        plan = plan_tiles(
            grid,
            tissue,
            model.window_px,
            STRIDE_PX,
            TilingSettings().overlap,
            lattice_px=model.encoder.step_px,
        )
        mosaic = ScoreMosaic(grid.columns, grid.rows, len(model.classes), model.window_px // STRIDE_PX)
        spent = 0.0
        for block in plan.blocks:
            windows = block.cut(reader.read(block.box, block.size))
            start = time.process_time()
            logits = engine.launch(windows)().logits
            spent += time.process_time() - start
            for tile, scores in zip(block.tiles, logits, strict=True):
                mosaic.add(tile.row, tile.column, scores)
        _, logits, covered = mosaic.release(grid.rows)
        pixels = reader.read(grid.box, (grid.columns * STRIDE_PX, grid.rows * STRIDE_PX))
    return Part(
        torch.from_numpy(logits).softmax(0).numpy(),
        covered & tissue.sample(grid, 0, grid.rows),
        cell_colours(pixels),
        tissue.thumbnail[tissue.field >= 128],
        plan.tiles,
        spent,
    )


def cell_colours(pixels: np.ndarray) -> np.ndarray:
    """Return the mean colour of each cell."""
    size = pixels.shape[1] // STRIDE_PX, pixels.shape[0] // STRIDE_PX
    return cv2.resize(pixels[: size[1] * STRIDE_PX, : size[0] * STRIDE_PX], size, interpolation=cv2.INTER_AREA)


def refine(settings: RefineSettings, part: Part) -> np.ndarray:
    """Return refined probabilities of a part, whole."""
    refiner = build_refiner(settings, CPU, STRIDE_PX, part.landmark_colours)
    return refiner.refine(part.probabilities, part.analysed, part.colours) if refiner else part.probabilities


def seam(settings: RefineSettings, part: Part, whole: np.ndarray, halo: int) -> float:
    """Return the share of analysed cells whose label differs when refined in tiles."""
    refiner = build_refiner(settings, CPU, STRIDE_PX, part.landmark_colours)
    if refiner is None:
        return 0.0
    classes, _, columns = part.probabilities.shape
    with BandRefiner(refiner, columns, classes, halo) as rows:
        bands = [*rows.feed(part.probabilities, part.analysed, part.colours), *rows.finish()]
    tiled = np.concatenate([band.probabilities for band in bands], axis=1).argmax(0)
    return float((tiled != whole)[part.analysed].mean())


def discs_part(radius: int, contrast: float) -> tuple[Part, np.ndarray]:
    """Return a made-up part with discs on a lattice, and the number of the disc of each cell, 0 outside."""
    pitch, count = max(4 * radius, 24), 5
    y, x = np.mgrid[: pitch * count, : pitch * count]
    near = (y % pitch - pitch / 2 + 0.5) ** 2 + (x % pitch - pitch / 2 + 0.5) ** 2 < radius**2
    inside = 0.3 + 0.4 * cv2.GaussianBlur(near.astype(np.float32), (0, 0), 1.0)
    colours = np.where(near[..., None], np.array((200, 140, 180)) - contrast, (200, 140, 180))
    colours = colours + np.random.default_rng(0).normal(0, 10, colours.shape)
    colours = np.clip(colours, 0, 255).astype(np.uint8)
    discs = np.where(near, y // pitch * count + x // pitch + 1, 0)
    part = Part(np.stack([1 - inside, inside]), np.ones(near.shape, bool), colours, colours.reshape(-1, 3))
    return part, discs


def kept_share(regions: np.ndarray, keeps: np.ndarray) -> float:
    """Return the share of the regions (numbered, 0 is none) of which most cells are kept."""
    numbers = np.arange(1, regions.max() + 1)
    return float((ndimage.mean(keeps, regions, numbers) > 0.5).mean()) if len(numbers) else float("nan")


def small_regions(part: Part) -> np.ndarray:
    """Return the model's own regions of 20 to 500 cells, numbered."""
    labels = np.where(part.analysed, part.probabilities.argmax(0) + 1, 0)
    found, count = np.zeros(labels.shape, int), 0
    for label in range(1, len(part.probabilities) + 1):
        regions, number = ndimage.label(labels == label)
        sizes = np.bincount(regions.ravel(), minlength=number + 1)
        fit = (sizes >= 20) & (sizes <= 500)
        fit[0] = False
        new = np.where(fit, count + np.cumsum(fit), 0)
        found += new[regions]
        count += int(fit.sum())
    return found


def edge(part: Part, labels: np.ndarray) -> tuple[float, float]:
    """Return the sums behind the mean colour step under label borders, relative to all: (ratio · weight, weight)."""
    colours, steps, borders = part.colours.astype(float), [], []
    for axis in (0, 1):
        both = np.logical_and(*(np.delete(part.analysed, end, axis) for end in (0, -1)))
        steps.append(np.linalg.norm(np.diff(colours, axis=axis), axis=2)[both])
        borders.append((np.diff(labels, axis=axis) != 0)[both])
    step, border = np.concatenate(steps), np.concatenate(borders)
    return float(step[border].sum() / step.mean()), float(border.sum())


def nuclei_parts(model, root: Path, count: int) -> list[tuple[Part, object]]:
    """Return score maps of labelled images."""
    splits = (read_dataset(root, "brca-m2c", split, model.classes) for split in ("val", "train"))
    images = [image for split in splits for image in split.images][:count]
    found = []
    for image in images:
        pixels = image.read_pixels()
        height, width = (side // STRIDE_PX for side in pixels.shape[:2])
        colours = cell_colours(pixels)
        with torch.inference_mode():
            logits = model(pad(to_tensor(pixels)[None], model.encoder.step_px))[0].float()
        scores = logits.softmax(0).numpy()[:, :height, :width]
        found.append((Part(scores, np.ones((height, width), bool), colours, colours.reshape(-1, 3)), image))
    return found


def nuclei(settings: RefineSettings, parts: list[tuple[Part, object]]) -> float:
    """Return the share of nuclei whose class the refined map gives."""
    hits, total = 0, 0
    for part, image in parts:
        labels = refine(settings, part).argmax(0)
        x, y = np.minimum(image.points.places // STRIDE_PX, np.array(labels.shape[::-1]) - 1).T
        hits, total = hits + int((labels[y, x] == image.points.labels).sum()), total + len(x)
    return hits / max(total, 1)


def row(settings: RefineSettings, parts: list[Part], images: list) -> dict[str, str]:
    """Return one line of the table."""
    cells = sum(int(part.analysed.sum()) for part in parts)
    changed = spent = borders = weight = 0.0
    equal = []
    seams, regions = dict.fromkeys(HALOS, 0.0), []
    for part in parts:
        before, size = part.probabilities.argmax(0), int(part.analysed.sum())
        start = time.process_time()
        labels = refine(settings, part).argmax(0)
        spent += time.process_time() - start
        crf = RefineSettings("crf", settings.preset) if settings.method != "none" else settings
        changed += float((labels != before)[part.analysed].sum())
        equal.append(float((labels == refine(crf, part).argmax(0))[part.analysed].mean()))
        for halo in HALOS:
            seams[halo] += seam(settings, part, labels, halo) * size
        regions.append((small_regions(part), labels == before))
        ratio, count = edge(part, labels)
        borders, weight = borders + ratio, weight + count
    offsets = np.cumsum([0, *(r.max() for r, _ in regions)])
    numbered = np.concatenate(
        [np.where(r > 0, r + o, 0).ravel() for (r, _), o in zip(regions, offsets[:-1], strict=True)]
    )
    line = {"refine": f"{settings.method} {settings.preset}" if settings.method != "none" else "none"}
    line["changed"] = f"{changed / cells:.1%}"
    mean = np.average(equal, weights=[part.analysed.sum() for part in parts])
    line["= crf, worst part"] = f"{mean:.4f}, {min(equal):.4f}"
    line[f"seam {'/'.join(map(str, HALOS))}"] = " ".join(f"{seams[halo] / cells:.2%}" for halo in HALOS)
    line["ms/window"] = f"{1e3 * spent / sum(p.windows for p in parts):.0f}"
    for name, contrast in (("faint", 12.0), ("clear", 60.0)):
        shares = []
        for radius in DISC_RADII:
            part, discs = discs_part(radius, contrast)
            shares.append(f"{kept_share(discs, refine(settings, part).argmax(0) == 1):.0%}")
        line[f"{name} discs r={'/'.join(f'{r * CELL_UM:.0f}' for r in DISC_RADII)} µm"] = " ".join(shares)
    line["regions"] = f"{kept_share(numbered, np.concatenate([k.ravel() for _, k in regions])):.0%}"
    line["edge"] = f"{borders / weight:.2f}"
    line["nuclei"] = f"{nuclei(settings, images):.4f}"
    return line


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, nargs="?", default=Path(__file__).resolve().parents[3] / "shared")
    parser.add_argument("--parts", type=int, default=len(PARTS))
    parser.add_argument("--images", type=int, default=10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    engine = Engine(load_model("builtin"), InferenceSettings(device="cpu"))
    slides = given.shared / "data" / "slides"
    parts = [map_part(engine, slides / name, mpp, corner) for name, mpp, corner in PARTS[: given.parts]]
    images = nuclei_parts(engine.model, given.shared / "data" / "brca-m2c", given.images)
    print(f"model: {1e3 * sum(p.model_s for p in parts) / sum(p.windows for p in parts):.0f} ms/window")
    choices = [RefineSettings("none")]
    choices += [RefineSettings(method, preset) for method in ("crf", "fast") for preset in ("default", "released")]
    for number, settings in enumerate(choices):
        line = row(settings, parts, images)
        if not number:
            print("| " + " | ".join(line) + " |\n|" + "---|" * len(line))
        print("| " + " | ".join(line.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
