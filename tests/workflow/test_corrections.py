"""Corrections of a person are learned on a made-up slide: the tissue that was wrong gets right, the rest stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner

from dualproto_wsi.cli.main import main
from dualproto_wsi.data.crops import label_crops_by_mask
from dualproto_wsi.data.images import NOT_LABELLED
from dualproto_wsi.data.layouts import read_dataset
from dualproto_wsi.errors import DataError, SettingsError
from dualproto_wsi.model.checkpoint import find_model, load_model, read_card
from dualproto_wsi.settings import TrainSettings
from dualproto_wsi.workflow.listener import TrainListener
from dualproto_wsi.workflow.training.continuing import continued_settings
from dualproto_wsi.workflow.training.corrections import MIN_SHARE, cut_corrections
from dualproto_wsi.workflow.training.features import Features
from dualproto_wsi.workflow.training.keeping import make_keeper
from dualproto_wsi.workflow.training.train import TrainReport, train_model
from dualproto_wsi.workflow.training.windows import make_samples

HEIGHT, WIDTH = 512, 768
VIOLET, WAVES, DOTS = np.s_[:, 384:], np.s_[:256, :384], np.s_[256:, :384]
CORRECTED, REST = np.s_[:192, 416:704], np.s_[288:, 400:]
TUMOR, STROMA, LYMPHOCYTE = 0, 1, 2


def paint() -> np.ndarray:
    """Return tissue of which the built-in model takes the violet half for stroma, the waves, too, and small dark
    dots for lymphocytes.
    """
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([170 + 0 * x, 110 + 10 * np.sin(x / 9), 180 + 0 * x], -1)
    pixels[WAVES] = np.stack([225 + 0 * x, 150 + 40 * np.sin((x + 2 * y) / 4), 190 + 0 * x], -1)[WAVES]
    nuclei = (x % 12 - 6) ** 2 + (y % 12 - 6) ** 2 < 16
    pixels[DOTS] = np.where(nuclei[..., None], (70, 40, 120), (215, 165, 205))[DOTS]
    return np.clip(pixels + np.random.default_rng(0).normal(0, 8, pixels.shape), 0, 255).astype(np.uint8)


def region(name: str, part: tuple[slice, slice], origin: str = "drawn") -> dict:
    (top, low, _), (left, right, _) = part[0].indices(HEIGHT), part[1].indices(WIDTH)
    ring = [[left, top], [right, top], [right, low], [left, low], [left, top]]
    properties = {"objectType": "annotation", "classification": {"name": name}, "origin": origin}
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}


def write(path: Path, *regions: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": regions}), encoding="utf-8")
    return path


def write_slide(path: Path, mpp: float | None = 0.5) -> Path:
    size = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"} if mpp else {}
    tifffile.imwrite(path, paint(), tile=(256, 256), photometric="rgb", compression="zlib", metadata=None, **size)
    return path


@pytest.fixture(scope="module")
def slide(tmp_path_factory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slide") / "a.tif")


@pytest.fixture(scope="module")
def corrections(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corrections")
    write(folder / "a.tif.geojson", region("Tumor", CORRECTED), region("Stroma", REST, "unchanged"))
    return folder


def settings(corrections: Path, epochs: int = 3, **continuing: object) -> TrainSettings:
    windows = {} if continuing.get("keep") == 0 else {"windows": 20}
    return continued_settings(
        {
            "continuing": {"model": "builtin", "corrections": str(corrections), **windows, **continuing},
            "data": {"window_px": 128, "workers": 1},
            "optimiser": {"epochs": epochs, "learning_rate": 2e-3},  # few steps: large ones
            "objective": {"steadiness": 0.0},
            "device": "cpu",
        }
    )


def labels(model: str | Path) -> np.ndarray:
    found = load_model(model)
    pixels = torch.from_numpy(paint().transpose(2, 0, 1)).float()[None] / 255
    with torch.inference_mode():
        small = found.head.logits(found.encoder.encode(pixels))[0].argmax(0)
    return small.numpy().repeat(found.stride_px, 0).repeat(found.stride_px, 1)


@pytest.fixture(scope="module")
def corrected(slide, corrections, tmp_path_factory) -> tuple[Path, TrainReport]:
    bundle = tmp_path_factory.mktemp("bundle") / "corrected.safetensors"
    return bundle, train_model(slide, bundle, settings(corrections))


def test_the_rest_of_the_tissue_gets_right_and_all_else_stays(slide, corrections, corrected, tmp_path):
    before, after = labels("builtin"), labels(corrected[0])
    assert (before[REST] == TUMOR).mean() < 0.02
    assert (after[REST] == TUMOR).mean() > 0.9
    assert (after[CORRECTED] == TUMOR).mean() > 0.9
    inner = [np.s_[16:240, 16:368], np.s_[272:496, 16:368]]  # at borders of tissues even the first map is unsure
    assert [np.bincount(before[part].ravel()).argmax() for part in inner] == [STROMA, LYMPHOCYTE]
    stays = np.mean([(before[part] == after[part]).mean() for part in inner])
    assert stays >= 0.97
    free = tmp_path / "free.safetensors"
    train_model(slide, free, settings(corrections, keep=0.0))
    forgotten = np.mean([(before[part] == labels(free)[part]).mean() for part in inner])
    assert forgotten < 0.95


def test_what_the_slide_gave_is_told_and_nothing_is_left_behind(corrected):
    bundle, report = corrected
    (told,) = report.corrected
    assert (told.tiles > 0, told.windows, told.unknown, told.error) == (True, 20, {}, "")
    assert told.present == {"Tumor": told.tiles}
    assert report.unmatched == ()
    assert not bundle.with_name("corrected.safetensors.training").exists()
    training = report.card.training
    assert training["data"] == "corrections of slides"
    assert training["labels"] == "image-level, of crops under regions that a person drew or changed"
    assert training["positives"]["Tumor"] > 0 == training["positives"]["Stroma"]
    assert training["settings"]["continuing"]["corrections"]
    assert "/" not in training["settings"]["continuing"]["corrections"]


def test_windows_lie_outside_of_corrections_and_have_no_label(slide, corrections, tmp_path):
    card = read_card(find_model("builtin"))
    cut_corrections(slide, tmp_path / "tiles", card, settings(corrections))
    images = read_dataset(tmp_path / "tiles", "table", "train", card.classes).images
    windows = [image for image in images if image.mask is None]
    assert len(windows) == 20
    assert {int(label) for image in windows for label in image.labels} == {-1}
    assert {image.patient for image in images} == {"a"}
    for image in windows:
        left, top = (int(part[1:]) for part in image.path.stem.split("_"))
        assert left + 128 <= 416 or top >= 192
        assert np.array_equal(image.read_pixels(), paint()[top : top + 128, left : left + 128])
    again = cut_corrections(slide, tmp_path / "tiles", card, settings(corrections))
    assert again[0][0].windows == 20  # what was there is cut anew


def test_the_first_head_is_not_trusted_where_it_looks_like_what_was_corrected(slide, corrections, tmp_path):
    model, chosen = load_model("builtin"), settings(corrections)
    cut_corrections(slide, tmp_path / "tiles", model.card, chosen)
    data = read_dataset(tmp_path / "tiles", "table", "train", model.card.classes)
    samples = make_samples(data, chosen.data, model.encoder.step_px, MIN_SHARE)
    keeper = make_keeper(Features(model.encoder), model.head, samples, None, 1)
    assert keeper is not None
    levels = model.encoder.encode(torch.from_numpy(paint().transpose(2, 0, 1)).float()[None] / 255)
    with torch.inference_mode():
        trusted = keeper.trusted(model.head.logits(levels), levels[-1])[0].numpy()
    trusted = trusted.repeat(model.stride_px, 0).repeat(model.stride_px, 1)
    assert trusted[REST].mean() < 0.1
    assert min(trusted[WAVES].mean(), trusted[DOTS].mean()) > 0.95
    labelled = [sample for sample in samples if sample.labelled]
    assert make_keeper(Features(model.encoder), model.head, labelled, None, 1) is None


def test_crops_are_labelled_by_regions():
    mask = np.full((64, 96), NOT_LABELLED, np.uint8)
    mask[:, :64] = 1
    (grid,) = label_crops_by_mask(mask, 2, (64,), 0.05)
    assert (grid.size, grid.step) == (64, 32)
    assert grid.labels.tolist() == [[[0, -1]], [[1, 1]]]  # half of the second crop is hidden
    assert label_crops_by_mask(mask, 2, (80,), 0.05)[0].labels.shape == (2, 0, 0)


def test_reviewed_regions_count(slide, corrections, tmp_path):
    card = read_card(find_model("builtin"))
    (told,), _ = cut_corrections(slide, tmp_path / "tiles", card, settings(corrections, reviewed=True))
    assert told.present.keys() == {"Tumor", "Stroma"}


def test_a_bad_slide_and_one_without_corrections(corrections, tmp_path):
    slides, folder = tmp_path / "slides", tmp_path / "corrections"
    slides.mkdir()
    write_slide(slides / "a.tif")
    write_slide(slides / "b.tif")
    write_slide(slides / "c.tif", mpp=None)
    (slides / "d.tif").write_bytes(b"no slide")
    write(folder / "a.tif.geojson", region("Tumor", CORRECTED), region("Necrosis", REST, "changed"))
    write(folder / "c.tif.geojson", region("Tumor", CORRECTED))
    write(folder / "z.tif.geojson", region("Tumor", CORRECTED))
    card = read_card(find_model("builtin"))
    told, unmatched = cut_corrections(slides, tmp_path / "tiles", card, settings(folder))
    a, b, c, d = told
    assert (a.error, a.unknown) == ("", {"Necrosis": 1})
    assert (b.tiles, b.windows, b.error) == (0, 20, "")
    assert "pixel size" in c.error and c.windows == 0
    assert "d.tif" in d.error
    assert [path.name for path in unmatched] == ["z.tif.geojson"]


def test_nothing_corrected(slide, tmp_path):
    card, out = read_card(find_model("builtin")), tmp_path / "tiles"
    file = write(tmp_path / "a.tif.geojson", region("Tumor", CORRECTED, "unchanged"), region("Stroma", REST, "model"))
    with pytest.raises(DataError) as error:
        cut_corrections(slide, out, card, settings(file))
    assert str(error.value) == (
        f"{file}: none of its 2 region(s) was drawn or changed; correct some in QuPath and export them, or let all "
        "count with --reviewed"
    )
    write(file, region("Tumor", np.s_[0:8, 0:8]))
    with pytest.raises(DataError) as error:
        cut_corrections(slide, out, card, settings(file))
    assert str(error.value) == f"{file}: none of its corrections fills 5% of a tile of 128 px; draw larger ones"
    other = write(tmp_path / "more" / "b.tif.geojson", region("Tumor", CORRECTED)).parent
    write(other / "c.tif.geojson", region("Tumor", CORRECTED))
    with pytest.raises(DataError) as error:
        cut_corrections(slide, out, card, settings(other))
    assert str(error.value) == (
        f"{other}: corrections of none of the 1 slide(s); a file is matched by the image that it names, or by its own "
        "name, as a.svs.geojson"
    )
    with pytest.raises(DataError, match=r"no slide gave a tile; the first failed: .*b\.tif"):
        cut_corrections(write_slide(tmp_path / "b.tif", None), out, card, settings(other))
    with pytest.raises(DataError, match=r"no slide gave a tile; the first failed: .*none\.tif: no such slide"):
        cut_corrections(tmp_path / "none.tif", out, card, settings(file))


class Stop(TrainListener):
    def epoch_done(self, loss: float) -> None:
        raise KeyboardInterrupt


def test_a_stopped_training_goes_on_and_notices_other_corrections(slide, tmp_path):
    bundle = tmp_path / "a.safetensors"
    small = np.s_[:96, 416:512]
    file = write(tmp_path / "a.tif.geojson", region("Tumor", small))
    chosen = settings(file, epochs=2, windows=2)
    with pytest.raises(KeyboardInterrupt):
        train_model(slide, bundle, chosen, Stop())
    write(file, region("Stroma", small))
    with pytest.raises(SettingsError, match=r"holds a training that was stopped, with other data; run its command"):
        train_model(slide, bundle, chosen)
    write(file, region("Tumor", small))
    train_model(slide, bundle, chosen)
    whole = tmp_path / "whole.safetensors"
    train_model(slide, whole, chosen)
    one, other = (load_model(path).head.state_dict() for path in (bundle, whole))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_command_line(slide, corrections, tmp_path):
    small = ["--epochs", "1", "--set", "data.window_px=128", "--set", "continuing.windows=2", "--device", "cpu"]
    given = [
        str(slide),
        "--continue",
        "builtin",
        "--corrections",
        str(corrections),
        "-o",
        str(tmp_path / "a.safetensors"),
    ]
    done = CliRunner().invoke(main, ["train", *given, *small])
    assert done.exit_code == 0, done.output
    assert "tiles under corrections, Tumor in" in done.output and "; 2 windows elsewhere" in done.output
    done = CliRunner().invoke(main, ["train", *given, "--encoder", "conch"])
    assert done.exit_code == 2
    assert "encoder.name is 'conch', but that of the model that is continued" in done.output
