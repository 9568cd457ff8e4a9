"""An ablation on a small phantom: every variant trained, scored alike, and not again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import main
from dualproto_wsi.data.phantom import write_phantom
from dualproto_wsi.errors import DataError, SettingsError
from dualproto_wsi.settings import read_ablation
from dualproto_wsi.workflow.listener import TrainListener
from dualproto_wsi.workflow.training.ablate import Row, check_alike, run_ablation, slug

CONFIG = """
seeds = [0, 1]
refiners = ["none", "fast"]
[base]
data = { layout = "bcss-wsss", mpp = 0.5, workers = 1 }
optimiser.epochs = 1
objective.steadiness = 0.0
validation = { split = "", select = "last", calibration = "none" }
encoder.adapt = 0.0
[variants.image]
head.text = false
[variants.CAM]
head.kind = "cam"
"""


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, train=10, val=1, test=3, side=64)
    return folder


class Fits(TrainListener):
    def __init__(self) -> None:
        self.count = 0

    def fit_started(self, title: str, epochs: int) -> None:
        self.count += 1


def test_table_and_resume(phantom: Path, tmp_path: Path) -> None:
    config = tmp_path / "a.toml"
    config.write_text(CONFIG)
    out = tmp_path / "out"
    done = CliRunner().invoke(main, ["ablate", str(phantom), "--config", str(config), "-o", str(out)])
    assert done.exit_code == 0, done.output
    rows = {row["name"]: row for row in json.loads((out / "ablation.json").read_text())["rows"]}
    assert list(rows) == ["image", "image, refined: fast", "CAM", "CAM, refined: fast"]
    for name, row in rows.items():
        assert len(row["accuracy"]) == 2 and len(row.get("mean IoU", ())) <= 2 and 0 <= min(row["accuracy"]) <= 1
        assert f"{name}  " in done.output
    assert "cv accuracy" not in done.output  # no folds
    assert sorted(path.stem for path in out.glob("*.safetensors")) == ["CAM-0", "CAM-1", "image-0", "image-1"]

    fits = Fits()
    again = run_ablation(phantom, out, read_ablation(config), fits)
    assert fits.count == 0
    assert [row.to_json() for row in again] == list(rows.values())

    config.write_text(CONFIG.replace('head.kind = "cam"', 'head.kind = "cam"\noptimiser.weight_decay = 0.5'))
    run_ablation(phantom, out, read_ablation(config), fits)
    assert fits.count == 2  # what is trained otherwise is trained anew, the others not


def test_a_probe_without_truth_is_refused_before_training(phantom: Path, tmp_path: Path) -> None:
    config = tmp_path / "a.toml"
    config.write_text("probe = true\n" + CONFIG)
    with pytest.raises(DataError, match=r"'train' has no mask or point, and a probe learns from these"):
        run_ablation(phantom, tmp_path / "out", read_ablation(config))
    assert not (tmp_path / "out").exists()


def test_rows_tell_mean_and_spread() -> None:
    row = Row("a")
    for value in (0.5, 0.7, None):
        row.add("accuracy", value)
    assert row.told("accuracy") == "0.600 ± 0.141"
    assert row.told("mean IoU") == ""
    row.add("mean IoU", 0.25)
    assert row.told("mean IoU") == "0.250"


def test_only_what_is_alike_is_compared(tmp_path: Path) -> None:
    config = tmp_path / "a.toml"
    config.write_text('[variants.a]\n[variants.b]\ndata.classes = ["Tumor", "Stroma"]\n')
    with pytest.raises(SettingsError, match=r"variants 'a' and 'b': data\.classes differs"):
        check_alike(read_ablation(config).variants)
    config.write_text('[variants."a b"]\n[variants."a-b"]\n')
    with pytest.raises(SettingsError, match=r"variants 'a b', 'a-b' would have files of one name"):
        check_alike(read_ablation(config).variants)
    assert slug("text, head.merge=mean / x") == "text-head.merge=mean-x"


def test_a_figure_that_is_not_defined_is_left_out():
    row = Row("a")
    for value in (0.5, float("nan"), None, 0.7):
        row.add("mean IoU", value)
    row.add("cv mean IoU", float("nan"))
    assert (row.told("mean IoU"), row.told("cv mean IoU")) == ("0.600 ± 0.141", "")
    assert row.to_json() == {"name": "a", "mean IoU": [0.5, 0.7]}
