"""Slides encoded once and asked again: from kept features comes what comes from the pixels."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner

from dualproto_wsi.cli.main import main
from dualproto_wsi.errors import FeaturesUnusable, SettingsError
from dualproto_wsi.model.checkpoint import load_model, save_bundle
from dualproto_wsi.settings import (
    FeatureSettings,
    InferenceSettings,
    LabelSettings,
    OutputSettings,
    ReadSettings,
    RefineSettings,
    RunSettings,
    SegmentSettings,
    TilingSettings,
    TissueSettings,
)
from dualproto_wsi.workflow.batch.plan import plan_slides
from dualproto_wsi.workflow.batch.rerun import rerun_slide
from dualproto_wsi.workflow.features.store import StoredFeatures
from dualproto_wsi.workflow.segment import segment_slides

CPU = InferenceSettings(device="cpu")


def run(slides, out, **sections):
    settings = SegmentSettings(**{"inference": CPU, **sections})
    return {outcome.slide.name: outcome for outcome in segment_slides(slides, out, settings)}


def only(slides, out, **sections):
    (outcome,) = run(slides, out, **sections).values()
    return outcome


def record(outcome) -> dict:
    return json.loads((outcome.folder / "record.json").read_text())


def labels(outcome) -> np.ndarray:
    return tifffile.imread(outcome.folder / "labels.tif")


def differing(one, other) -> float:
    """Share of the analysed cells that have another label."""
    first, second = labels(one), labels(other)
    assert first.shape == second.shape
    return float((first != second).sum() / max(1, (first > 0).sum()))


def source(folder) -> FeatureSettings:
    return FeatureSettings(source=str(folder))


@pytest.fixture(scope="module")
def slide(tmp_path_factory, make_slide) -> Path:
    return make_slide(tmp_path_factory.mktemp("one") / "a.tif", 700, 900)


@pytest.fixture(scope="module")
def plain(slide, tmp_path_factory):
    """The slide mapped without any features kept."""
    return only([slide], tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def kept(slide, tmp_path_factory):
    """A folder of features of both levels, and the outcomes of the runs that kept them."""
    folder = tmp_path_factory.mktemp("kept") / "features"
    first = only([slide], folder.parent / "out", features=FeatureSettings(cache=str(folder)))
    second = only([slide], folder.parent / "out 2", features=FeatureSettings(cache=str(folder), level="encoder"))
    return folder, first, second


@pytest.fixture(scope="module")
def cache(kept, tmp_path_factory) -> Path:
    """The features of the first level alone."""
    folder = tmp_path_factory.mktemp("head")
    (path,) = kept[0].glob("*-head-*")
    shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Bundles: with other prototypes, and with another refiner."""
    folder, made = tmp_path_factory.mktemp("models"), {}
    for name in ("prototypes", "refiner"):
        model = load_model("builtin")
        torch.manual_seed(1)
        with torch.no_grad():
            weights = {"prototypes": model.head.bank.image, "refiner": model.head.refiner.project.weight}[name]
            weights += 0.5 * weights.std() * torch.randn(weights.shape)
        made[name] = folder / f"{name}.safetensors"
        save_bundle(made[name], model)
    return made


def test_keeping_features_changes_no_result(plain, kept):
    for outcome, level in zip(kept[1:], ("head", "encoder"), strict=True):
        for name in ("a.tif.geojson", "labels.tif", "overlay.png"):
            assert (outcome.folder / name).read_bytes() == (plain.folder / name).read_bytes()
        told = record(outcome)["features"]
        assert told["level"] == level
        assert told["bytes"] == Path(told["file"]).stat().st_size
        assert told["mb_per_mm2"] == pytest.approx(told["bytes"] / 1e6 / record(outcome)["tissue_mm2"], rel=0.01)
    assert record(plain)["features"] is None


@pytest.mark.parametrize("level", ["head", "encoder"])
def test_the_same_settings_give_the_same_labels(plain, kept, slide, tmp_path, level, monkeypatch):
    monkeypatch.setattr("dualproto_wsi.model.checkpoint.build_encoder", None)  # the encoder is not needed
    (tmp_path / "features").mkdir()
    (path,) = kept[0].glob(f"*-{level}-*")
    shutil.copy(path, tmp_path / "features")
    outcome = only([slide], tmp_path / "out", features=source(tmp_path / "features"))
    assert outcome.status == "done"
    assert outcome.tiles == plain.tiles
    assert differing(plain, outcome) <= 1e-3
    assert (outcome.folder / "overlay.png").exists()
    told = record(outcome)
    assert told["features"]["used"] and told["features"]["level"] == level
    assert told["fingerprint"]["features"]
    assert told["tissue_mm2"] == record(plain)["tissue_mm2"]


def test_a_real_slide_gives_the_same_labels(shared, tmp_path):
    slide = shared / "data" / "slides" / "CMU-1-Small-Region.svs"
    first = only([slide], tmp_path / "1", features=FeatureSettings(cache=str(tmp_path / "features")))
    second = only([slide], tmp_path / "2", features=source(tmp_path / "features"))
    assert differing(first, second) <= 1e-3
    assert (second.folder / "overlay.png").exists()
    assert second.regions == pytest.approx(first.regions, rel=0.02)


@pytest.mark.parametrize("model", ["prototypes", "refiner"])
def test_another_model_asks_the_same_features(kept, models, slide, tmp_path, model):
    """Other prototypes from what the head compares; another refiner only from the encoder's levels."""
    inference = replace(CPU, model=str(models[model]))
    expected = only([slide], tmp_path / "1", inference=inference)
    found = only([slide], tmp_path / "2", inference=inference, features=source(kept[0]))
    assert record(found)["features"]["level"] == {"prototypes": "head", "refiner": "encoder"}[model]
    assert differing(expected, found) <= 1e-3


@pytest.mark.parametrize(
    "sections",
    [
        {"inference": replace(CPU, gate=2.0)},
        {"refine": RefineSettings(method="fast")},
        {
            "labels": LabelSettings(unsure_below=0.6, min_area_um2=100),
            "output": OutputSettings(confidence=True, overlay=False, simplify_um=2, formats=("geojson.gz",)),
        },
        {"tissue": TissueSettings(min_area_mm2=0.02)},
    ],
)
def test_other_settings_are_asked_of_the_same_features(cache, slide, tmp_path, sections):
    expected = only([slide], tmp_path / "1", **sections)
    found = only([slide], tmp_path / "2", features=source(cache), **sections)
    assert found.status == "done", found.error
    assert differing(expected, found) <= 2e-3
    assert {path.name for path in found.folder.iterdir()} == {path.name for path in expected.folder.iterdir()}


def test_a_part_of_the_slide_is_asked_of_the_features_of_all(cache, slide, tmp_path):
    ring = [[300, 200], [600, 200], [600, 500], [300, 500], [300, 200]]
    part = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
    (tmp_path / "part.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [part]}))
    (tmp_path / "slides.csv").write_text(f"path,regions\n{slide},part.geojson\n")
    expected = only([tmp_path / "slides.csv"], tmp_path / "1")
    found = only([tmp_path / "slides.csv"], tmp_path / "2", features=source(cache))
    assert found.status == "done" and 0 < found.analysed_mm2 < 0.03
    assert differing(expected, found) <= 2e-3


def test_runs_are_resumed_and_redone_when_the_features_are_others(cache, slide, tmp_path):
    folder = Path(shutil.copytree(cache, tmp_path / "features"))
    assert not only([slide], tmp_path / "out", features=source(folder)).skipped
    assert only([slide], tmp_path / "out", features=source(folder)).skipped
    (path,) = folder.iterdir()
    moved = Path(shutil.move(folder, tmp_path / "moved")) / path.name
    assert only([slide], tmp_path / "out", features=source(moved.parent)).skipped
    only([slide], tmp_path / "fp32", inference=replace(CPU, precision="fp32"), features=cached(moved.parent))
    again = only([slide], tmp_path / "out", features=source(moved.parent))
    assert again.skipped == (record(again)["features"]["precision"] != "fp32")
    assert not only([slide], tmp_path / "out").skipped


def cached(folder, **changes) -> FeatureSettings:
    return FeatureSettings(cache=str(folder), **changes)


def test_a_done_slide_is_done_again_until_its_features_are_kept(slide, tmp_path):
    out = tmp_path / "out"
    assert not only([slide], out).skipped
    assert not only([slide], out, features=cached(tmp_path / "a")).skipped
    assert only([slide], out, features=cached(tmp_path / "a")).skipped
    assert only([slide], out).skipped
    (path,) = (tmp_path / "a").iterdir()
    stamp = path.stat().st_mtime_ns
    only([slide], out, features=cached(tmp_path / "a"), run=RunSettings(force=True))
    assert path.stat().st_mtime_ns == stamp  # nothing new to keep
    path.unlink()
    assert not only([slide], out, features=cached(tmp_path / "a")).skipped
    assert not only([slide], out, features=cached(tmp_path / "b")).skipped


def test_what_does_not_fit_is_mapped_without_being_kept(slide, tmp_path, caplog):
    full = cached(tmp_path / "features", limit_gb=1e-6)
    outcome = only([slide], tmp_path / "out", features=full)
    assert outcome.status == "done"
    assert "a.tif: features are not kept" in caplog.text
    assert "features would hold more than 1e-06 GB; raise --cache-limit, or delete files" in caplog.text
    assert not list((tmp_path / "features").iterdir())
    assert "more than 1e-06 GB" in record(outcome)["features"]["not_kept"]
    assert only([slide], tmp_path / "out", features=full).skipped
    assert not only([slide], tmp_path / "out", features=cached(tmp_path / "features")).skipped


def test_a_folder_that_cannot_be_written_costs_the_features_alone(slide, tmp_path, caplog):
    (tmp_path / "features").write_text("a file")
    assert only([slide], tmp_path / "out", features=cached(tmp_path / "features")).status == "done"
    assert "a.tif: features are not kept" in caplog.text


def test_an_empty_slide_keeps_nothing(make_slide, tmp_path):
    glass = tmp_path / "glass.tif"
    white = np.full((600, 600, 3), 244, np.uint8)
    tifffile.imwrite(
        glass, white, tile=(256, 256), photometric="rgb", resolution=(2e4, 2e4), resolutionunit="CENTIMETER"
    )
    outcome = only([glass], tmp_path / "out", features=cached(tmp_path / "features"))
    assert (outcome.status, record(outcome)["features"]["not_kept"]) == ("empty", "no tissue")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"tiling": TilingSettings(overlap=0.5)},
            r"lacks \d+ of \d+ windows \(--overlap 0\.125 then, 0\.5 now\); give the settings that it was made with",
        ),
        (
            {"inference": replace(CPU, precision="fp16")},
            r"was made with precision (bf16|fp32), asked for is fp16; leave --precision out",
        ),
        (
            {"read": ReadSettings(mpp=0.4)},
            r"was made at 0\.5 µm/px, this run takes the slide for 0\.4 µm/px; give the same --mpp",
        ),
    ],
)
def test_features_made_otherwise_are_refused(cache, slide, tmp_path, sections, message):
    outcome = only([slide], tmp_path / "out", features=source(cache), **sections)
    assert outcome.status == "failed"
    assert outcome.error.startswith(f"a.tif: {cache}")
    assert re.search(message, outcome.error), outcome.error


def test_a_slide_without_features_fails_alone(cache, slide, make_slide, tmp_path):
    make_slide(tmp_path / "b.tif", 300, 300)
    outcomes = run([tmp_path / "b.tif", slide], tmp_path / "out", features=source(cache))
    assert {name: outcome.status for name, outcome in outcomes.items()} == {"a.tif": "done", "b.tif": "failed"}
    assert outcomes["b.tif"].error == (
        f"b.tif: no features of it in {cache}; make them with --cache-features (a slide whose file changed is another "
        "slide)"
    )


def test_another_trunk_and_other_windows_are_told(cache, models, slide, tmp_path):
    outcome = only(
        [slide], tmp_path / "out", inference=replace(CPU, model=str(models["refiner"])), features=source(cache)
    )
    assert "holds features of refiner and pyramid" in outcome.error
    assert "; this model needs those of" in outcome.error and "store this slide's features anew" in outcome.error
    model = load_model("builtin")
    model.card = replace(model.card, window_px=224)
    save_bundle(tmp_path / "small.safetensors", model)
    small = replace(CPU, model=str(tmp_path / "small.safetensors"))
    outcome = only([slide], tmp_path / "out", inference=small, features=source(cache))
    assert "holds windows of 448 px at 0.5 µm; this model needs 224 px at 0.5 µm" in outcome.error


def test_another_encoder_stops_the_run(cache, slide, tmp_path):
    model = load_model("builtin")
    model.card = replace(model.card, encoder_hash="0" * 16)
    save_bundle(tmp_path / "other.safetensors", model)
    other = replace(CPU, model=str(tmp_path / "other.safetensors"))
    with pytest.raises(
        FeaturesUnusable, match=r"holds features of compact [0-9a-f]{16}; this model needs those of comp"
    ):
        run([slide], tmp_path / "out", inference=other, features=source(cache))
    with pytest.raises(FeaturesUnusable, match="holds no features; this model needs those of compact"):
        run([slide], tmp_path / "out", features=source(tmp_path / "nothing"))


def test_a_renamed_file_is_noticed(cache, slide, make_slide, tmp_path):
    other = make_slide(tmp_path / "other.tif", 300, 300)
    only([other], tmp_path / "1", features=cached(tmp_path / "features"))
    (mine,), (theirs,) = cache.iterdir(), (tmp_path / "features").iterdir()
    shutil.copy(mine, theirs)
    outcome = only([other], tmp_path / "2", features=source(tmp_path / "features"))
    assert f"other.tif: {theirs} holds head features of the slide a.tif" in outcome.error
    assert "not of this one" in outcome.error and "was the file renamed?" in outcome.error


def test_a_lone_file_that_is_damaged_or_has_another_name_is_told(cache, slide, tmp_path):
    folder = Path(shutil.copytree(cache, tmp_path / "features"))
    (path,) = folder.iterdir()
    other = Path(shutil.copy(path, folder / f"{path.name[:16]}-mine.features"))
    path.write_bytes(path.read_bytes()[:-100])
    outcome = only([slide], tmp_path / "out", features=source(folder))
    assert f"{path}: cut short, or no file of features" in outcome.error
    path.unlink()
    outcome = only([slide], tmp_path / "out", features=source(folder))
    assert f"{other} holds the right features under a name that is not its own" in outcome.error
    other.write_bytes(b"nothing")
    with pytest.raises(FeaturesUnusable, match=r"mine\.features: cut short, or no file of features"):
        only([slide], tmp_path / "out", features=source(folder))


def test_a_damaged_window_costs_its_slide_alone(cache, slide, tmp_path):
    folder = Path(shutil.copytree(cache, tmp_path / "features"))
    (path,) = folder.iterdir()
    with StoredFeatures(path) as stored:
        y, x = sorted(stored.windows)[0]
        offset = stored._zip.getinfo(f"windows/{y}_{x}").header_offset
    data = bytearray(path.read_bytes())
    data[offset + 5000] ^= 1
    path.write_bytes(data)
    outcome = only([slide], tmp_path / "out", features=source(folder))
    assert outcome.status == "failed"
    assert f"its part windows/{y}_{x} is damaged" in outcome.error
    assert not (tmp_path / "out" / "a.tif" / "record.json").exists()


def test_a_slide_from_features_is_repeated_byte_by_byte(cache, slide, tmp_path):
    outcome = only([slide], tmp_path / "out", features=source(cache))
    again = rerun_slide(outcome.folder / "record.json", tmp_path / "again")
    assert again.agrees


def test_a_plan_is_of_runs_that_read(cache, slide):
    with pytest.raises(
        SettingsError, match=r"--from-features .*: plan measures what reading and encoding takes; leave"
    ):
        plan_slides([slide], SegmentSettings(inference=CPU, features=source(cache)))


def test_the_command_line(cache, slide, tmp_path):
    def segment(*arguments):
        given = ["segment", slide, "--device", "cpu", "--no-isolate", *arguments]
        return CliRunner().invoke(main, [str(argument) for argument in given])

    done = segment("-o", tmp_path / "1", "--from-features", cache, "--gate", "1")
    assert done.exit_code == 0, done.output
    both = segment("-o", tmp_path / "2", "--from-features", cache, "--cache-features", tmp_path)
    assert both.exit_code == 2
    assert "cache and source are both set: with --from-features nothing is encoded" in both.stderr
    alone = segment("-o", tmp_path / "2", "--cache-level", "encoder")
    assert (alone.exit_code, "level is encoder, but nothing is kept: give --cache-features" in alone.stderr) == (
        2,
        True,
    )
    none = segment("-o", tmp_path / "2", "--cache-features", tmp_path, "--cache-limit", "0")
    assert (none.exit_code, "limit_gb is 0; use more than 0" in none.stderr) == (2, True)
    compiled = segment("-o", tmp_path / "2", "--from-features", cache, "--compile")
    assert "compile is for the encoder; with --from-features none is run" in compiled.stderr
    wanted = ["--model", "zero-shot", "--encoder", "conch", "--prompts", "bcss", "--cache-level", "encoder"]
    shot = segment("-o", tmp_path / "2", *wanted, "--cache-features", tmp_path)
    assert "level encoder is for bundles only: a zero-shot model keeps its patches" in shot.stderr


def test_in_processes_of_their_own(cache, slide, tmp_path):
    """Isolation, with features: the worker finds them, too."""
    from dualproto_wsi.workflow.batch.workers import segment_in_workers

    settings = SegmentSettings(inference=CPU, features=source(cache))
    (outcome,) = segment_in_workers([slide], tmp_path / "out", settings)
    assert outcome.status == "done"
