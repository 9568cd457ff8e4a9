"""Pictures of some images: the image, the truth, the prediction, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dualproto_wsi.data.images import Points
from dualproto_wsi.errors import OutputError
from dualproto_wsi.vector.overlay import load_font, save_png
from dualproto_wsi.workflow.evaluation.report import EvaluationReport, choose_images
from dualproto_wsi.workflow.evaluation.score import BACKGROUND_NAME, accuracy_of
from dualproto_wsi.workflow.evaluation.truth import find_truth, read_sample, scale_between

SIDE = 320
"""Longer side of each picture, px."""

GAP, TEXT = 8, 15
FILL = 0.55
RIGHT, WRONG = (70, 150, 230), (255, 150, 0)
BACKGROUND_COLOUR = (235, 235, 235)

Pixels = NDArray[np.uint8]


def save_pictures(report: EvaluationReport, target: Path, count: int) -> list[Path]:
    """Draw some images of an evaluation, from the worst to the best by their accuracy.

    Parameters
    ----------
    report : EvaluationReport
        With the maps of its first row kept, see :func:`~dualproto_wsi.workflow.evaluation.evaluate.evaluate_models`.
    target : Path
        A file ending in ``.png``: one picture of all; else a folder: a picture an image, numbered from the worst on.
    count : int
        How many images at most.

    Returns
    -------
    list of Path
        What was written, whole or not at all.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    first = report.rows[0]
    accuracies = np.array([accuracy_of(counts) for counts in first.counts])
    chosen = choose_images(accuracies, count, report.settings.seed)
    rows = [_draw_row(report, i, float(accuracies[i])) for i in chosen]
    one = target.suffix.lower() == ".png"
    names = [report.images[i].path.stem for i in chosen]
    files = [target] if one else [target / f"{n:02d}-{name}.png" for n, name in enumerate(names, start=1)]
    sheets = [rows] if one else [[row] for row in rows]
    try:
        (target.parent if one else target).mkdir(parents=True, exist_ok=True)
        for file, sheet in zip(files, sheets, strict=True):
            save_png(_sheet(sheet, report), file)
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error.strerror}); name another place for --pictures"
        ) from error
    return files


def _sheet(rows: Sequence[Image.Image], report: EvaluationReport) -> Image.Image:
    """Put rows below each other, under a line of titles and above a legend."""
    font, protocol = load_font(TEXT), report.rows[0].protocol
    how = f"{report.rows[0].title}, gate {protocol.gate}, background {protocol.background}"
    legend = _legend(report)
    width = max(legend.width, *(row.width for row in rows)) if rows else max(legend.width, SIDE)
    top = 2 * TEXT + 2 * GAP
    height = top + sum(row.height + GAP for row in rows) + legend.height
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((GAP, GAP // 2), f"{report.data}: {how}; from the worst image to the best", fill="black", font=font)
    for column, title in enumerate(("image", "truth", "prediction", "right and wrong")):
        draw.text((GAP + column * (SIDE + GAP), TEXT + GAP), title, fill="black", font=font)
    for row in rows:
        canvas.paste(row, (0, top))
        top += row.height + GAP
    canvas.paste(legend, (0, top))
    return canvas


def _legend(report: EvaluationReport) -> Image.Image:
    font = load_font(TEXT)
    entries = list(zip(report.classes, report.colours, strict=True))
    if report.rows[0].protocol.background != "excluded":
        entries.append((BACKGROUND_NAME, BACKGROUND_COLOUR))
    entries += [("right", RIGHT), ("wrong", WRONG)]
    widths = [int(font.getlength(name)) + 3 * TEXT for name, _ in entries]
    canvas = Image.new("RGB", (sum(widths) + GAP, 2 * TEXT), "white")
    draw, x = ImageDraw.Draw(canvas), GAP
    for (name, colour), width in zip(entries, widths, strict=True):
        draw.rectangle((x, 4, x + TEXT, 4 + TEXT), fill=colour, outline="black")
        draw.text((x + TEXT + 6, 2), name, fill="black", font=font)
        x += width
    return canvas


def _draw_row(report: EvaluationReport, index: int, accuracy: float) -> Image.Image:
    """Draw one image: four pictures beside each other, and a line below."""
    image, row = report.images[index], report.rows[0]
    labels, pixels = row.maps[index], image.read_pixels()
    sample = read_sample(image, scale_between(report.mpp, report.model_mpp))
    truth = find_truth(sample, len(report.classes), (labels.shape[0], labels.shape[1]), report.cell_px)
    prediction = truth.to_pixels(labels)
    colours = np.array([*report.colours, BACKGROUND_COLOUR], np.uint8)
    painted = _paint(pixels, colours[prediction], np.ones(prediction.shape, np.bool_))
    if truth.mask is None:
        true, verdict = _draw_points(pixels, image.points, prediction, colours)
    else:
        true, verdict = _draw_mask(pixels, truth.mask, len(row.names), prediction, colours)
    shrink = SIDE / max(sample.size)
    size = (max(1, round(sample.size[1] * shrink)), max(1, round(sample.size[0] * shrink)))
    canvas = Image.new("RGB", (GAP + 4 * (SIDE + GAP), size[1] + TEXT + 6), "white")
    for column, panel in enumerate((pixels, true, painted, verdict)):
        small = cv2.resize(panel, size, interpolation=cv2.INTER_AREA if shrink < 1 else cv2.INTER_NEAREST)
        canvas.paste(Image.fromarray(small), (GAP + column * (SIDE + GAP), 0))
    text = f"{image.path.name}: accuracy {accuracy:.3f} of {int(row.counts[index].sum())} {report.kind}"
    ImageDraw.Draw(canvas).text((GAP, size[1] + 2), text, fill="black", font=load_font(TEXT))
    return canvas


def _draw_mask(
    pixels: Pixels, mask: Pixels, classes: int, prediction: Pixels, colours: Pixels
) -> tuple[Pixels, Pixels]:
    """Return the truth, and where the prediction is right and wrong; what does not count is pale."""
    labelled = mask < classes
    hit = (prediction == mask)[:, :, None]
    verdict = np.where(hit, np.array(RIGHT, np.uint8), np.array(WRONG, np.uint8))
    return _paint(pixels, colours[np.where(labelled, mask, 0)], labelled), _paint(pixels, verdict, labelled)


def _draw_points(pixels: Pixels, points: Points | None, prediction: Pixels, colours: Pixels) -> tuple[Pixels, Pixels]:
    true, verdict = pixels.copy(), pixels.copy()
    radius = max(2, round(max(prediction.shape) / 110))
    for (x, y), label in zip(points.places.tolist(), points.labels.tolist(), strict=True) if points else ():
        right = int(prediction[y, x]) == label
        for panel, colour in ((true, colours[label].tolist()), (verdict, RIGHT if right else WRONG)):
            cv2.circle(panel, (x, y), radius, colour, -1, cv2.LINE_AA)
            cv2.circle(panel, (x, y), radius, (0, 0, 0), 1, cv2.LINE_AA)
    return true, verdict


def _paint(pixels: Pixels, colours: NDArray[np.integer], where: NDArray[np.bool_]) -> Pixels:
    """Return a grey picture with colours laid over it where a mask is set."""
    grey = np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2).astype(np.float32)
    painted = np.where(where[:, :, None], (1 - FILL) * grey + FILL * colours, 0.5 * grey + 110)
    return np.asarray(np.rint(painted), np.uint8)
