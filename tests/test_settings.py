from __future__ import annotations

import pytest

from dualproto_wsi.errors import SettingsError
from dualproto_wsi.settings import (
    HeadSettings,
    InferenceSettings,
    LabelSettings,
    OutputSettings,
    ReadSettings,
    SegmentSettings,
    TilingSettings,
    TissueSettings,
    TrainSettings,
    from_data,
    load_toml,
    to_data,
)


@pytest.mark.parametrize("settings", [SegmentSettings(), HeadSettings(), SegmentSettings(read=ReadSettings(mpp=0.25))])
def test_plain_data_gives_the_same_settings_back(settings):
    assert from_data(type(settings), to_data(settings)) == settings


def test_toml_file(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('[read]\nmpp = 1\n[output]\nformats = ["geojson.gz"]\n')
    settings = load_toml(SegmentSettings, file)
    assert settings.read.mpp == 1.0
    assert settings.output.formats == ("geojson.gz",)
    assert settings.tiling == TilingSettings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[read]\nmmp = 1\n", r"run\.toml\.read: unknown key 'mmp'; known are mpp, reader, workers"),
        ("read = 3\n", r"run\.toml\.read: 3 must be a table"),
        ("[tiling]\noverlap = 0.9\n", r"run\.toml\.tiling: overlap is 0\.9; use 0 to 0\.75"),
        ("[tiling]\noverlap = true\n", r"overlap: True must be of type float"),
        ("[output]\nformats = 'geojson'\n", r"formats: 'geojson' must be a list"),
        ("[read\n", r"run\.toml: not valid TOML"),
    ],
)
def test_wrong_toml_is_told_with_file_and_key(tmp_path, text, message):
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_toml(SegmentSettings, file)


def test_missing_toml(tmp_path):
    with pytest.raises(SettingsError, match=r"nothing\.toml: no such settings file"):
        load_toml(SegmentSettings, tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReadSettings(mpp=0), "mpp is 0; microns per pixel lie between 0.01 and 100"),
        (lambda: ReadSettings(mpp=float("nan")), "mpp is nan"),
        (lambda: ReadSettings(reader="x"), "reader is 'x'; choose one of auto, jpeg, openslide, tiatoolbox"),
        (lambda: ReadSettings(workers=-1), "workers is -1; use 1 to 256"),
        (lambda: TissueSettings(mpp=0.1), "tissue mpp is 0.1; use 0.5 to 64"),
        (lambda: TissueSettings(min_area_mm2=-1), "min_area_mm2 is -1; it cannot be negative"),
        (lambda: TissueSettings(max_hole_mm2=-1), "max_hole_mm2 is -1; it cannot be negative"),
        (lambda: TilingSettings(-0.1), "overlap is -0.1"),
        (lambda: InferenceSettings(device="gpu"), "device is 'gpu'; use auto, cpu, cuda or cuda:N"),
        (lambda: InferenceSettings(precision="int8"), "precision is 'int8'"),
        (lambda: InferenceSettings(batch_size=-1), "batch_size is -1; use 1 to 4096, or 0 for automatic"),
        (
            lambda: InferenceSettings(model="zero-shot"),
            "zero-shot needs an encoder: --encoder conch, or open_clip:MODEL",
        ),
        (lambda: InferenceSettings(model="zero-shot", encoder="conch"), "zero-shot needs prompts: --prompts bcss"),
        (lambda: InferenceSettings(encoder="conch"), "encoder is for model zero-shot only; a bundle has its own"),
        (lambda: InferenceSettings(gate=11), "gate is 11; use 0"),
        (
            lambda: InferenceSettings(model="zero-shot", encoder="conch", prompts="bcss", gate=1.0),
            "gate is for bundles only",
        ),
        (lambda: InferenceSettings(prompts="bcss"), "prompts is for model zero-shot only"),
        (lambda: TrainSettings(device="gpu"), "device is 'gpu'; use auto, cpu, cuda or cuda:N"),
        (lambda: OutputSettings(formats=()), "formats is empty; choose from geojson, geojson.gz"),
        (lambda: OutputSettings(formats=("kml",)), "formats is 'kml'"),
        (lambda: OutputSettings(formats=("geojson", "geojson")), "formats names one twice"),
        (lambda: OutputSettings(object_type="cell"), "object_type is 'cell'"),
        (lambda: OutputSettings(frame="left"), "frame is 'left'"),
        (lambda: OutputSettings(square_um=0), "square_um is 0; use 1 to 10000"),
        (lambda: OutputSettings(simplify_um=-1), "simplify_um is -1; use 0 to 100"),
        (lambda: OutputSettings(object_type="tile", merge_per_class=True), "merge_per_class does not go with"),
        (lambda: LabelSettings(unsure_below=1), "unsure_below is 1; a probability, 0 to below 1"),
        (lambda: LabelSettings(min_area_um2=-1), "min_area_um2 is -1; use 0 to 100000000"),
        (lambda: LabelSettings(fill_holes_um2=1e9), "fill_holes_um2 is 1000000000.0; use 0"),
        (lambda: HeadSettings(norm="batch"), "norm is 'batch'"),
        (lambda: HeadSettings(merge="max"), "merge is 'max'"),
        (lambda: HeadSettings(map="best"), "map is 'best'"),
        (lambda: HeadSettings(text=False, image=False), "text and image are both off"),
        (lambda: HeadSettings(channels=(1,)), "must name the same number of scales"),
        (lambda: HeadSettings(dropout=1), "dropout is 1; use 0 to below 1"),
    ],
)
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(SettingsError, match=message.replace("(", r"\(")):
        make()
