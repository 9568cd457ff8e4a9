"""The verb `cohort`, as a person types it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import main


@pytest.fixture(scope="module")
def study(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    synthetic.write_cohort(folder, 12)
    return folder


def run(*arguments: object) -> tuple[int, list[str], str]:
    result = CliRunner().invoke(main, ["cohort", *map(str, arguments)])
    return result.exit_code, result.stdout.splitlines(), result.stderr


def test_a_study(study: Path, tmp_path: Path) -> None:
    options = ("--metadata", study / "patients.csv", "--by", "arm", "--time", "months", "--event", "died")
    code, told, _ = run(study / "results", *options, "-o", tmp_path / "report", "--bootstrap", 50, "--title", "Arms")
    assert code == 0
    assert told[0].startswith("14 slide(s): 12 done, 1 empty, 1 failed; 6 patient(s), ")
    assert "note: Patients of slides are from: column 'patient' of slides.csv (12)." in told
    assert any(
        line.startswith("warning: tumor_fraction, ") and "few patients: control (3), treated" in line for line in told
    )
    assert {str(path) for path in (tmp_path / "report").iterdir()} <= set(told)
    assert "<title>Arms" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_without_pyarrow(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "cohort.parquet").write_text("of an earlier report")
    code, told, _ = run(study / "results", "-o", tmp_path, "--bootstrap", 0)
    assert code == 0
    assert told[-1] == "note: no cohort.parquet, since pyarrow is not installed; pip install 'dualproto-wsi[parquet]'"
    assert not (tmp_path / "cohort.parquet").exists()


def test_options_reach_the_measures(study: Path, tmp_path: Path) -> None:
    options = ("--margin-um", "40,80", "--role", "Stroma=Necrosis", "--mixing-um", 100, "--bootstrap", 0)
    assert run(study / "results", *options, "-o", tmp_path)[0] == 0
    head, row = (tmp_path / "cohort.csv").read_text(encoding="utf-8").splitlines()[:2]
    assert "margin_out_40_80um_lymphocyte_fraction" in head
    values = dict(zip(head.split(","), row.split(","), strict=True))
    necrosis, tumor = float(values["necrosis_mm2"]), float(values["tumor_mm2"])
    assert float(values["tumor_stroma_ratio"]) == pytest.approx(necrosis / (necrosis + tumor))
    assert "squares of about 100 µm" in (tmp_path / "data_dictionary.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--margin-um", "a,b"), "--margin-um is 'a,b'; give numbers with commas between, as 100,250,500"),
        (("--margin-um", "50,20"), "margins_um is '50,20'; give rising distances up to 5000, as 100,250,500"),
        (("--margin-um", ""), "margins_um is ''; give rising distances up to 5000, as 100,250,500"),
        (("--front-mm2", "-1"), "front_mm2 is -1; it must be 0 to 100"),
        (("--mixing-um", "1"), "mixing_um is 1; it must be 10 to 5000"),
        (("--block-mm", "0"), "block_mm is 0; it must be 0.1 to 100"),
        (("--bootstrap", "-1"), "bootstrap is -1; it must be 0 to 100000"),
        (("--seed", "-1"), "seed is -1; it must be 0 or more"),
        (("--role", "tumor"), "--role is 'tumor'; give it as ROLE=CLASS, such as tumor=Carcinoma"),
        (("--role", "tumor=Tumor", "--role", "tumor=Stroma"), "role tumor is given twice"),
        (
            ("--role", "tumor=Skin"),
            "role tumor: the model has no class 'Skin'; its classes are Tumor, Stroma, Lymphocyte, Necrosis",
        ),
        (("--by", "arm"), "slides.csv: no column 'arm' for --by; its columns are patient; or give --metadata"),
        (("--id", "case"), "--id names a column of a table of patients; give it with --metadata"),
    ],
)
def test_what_makes_no_sense_is_one_line(study: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    code, told, error = run(study / "results", *options, "-o", tmp_path / "report")
    assert (code, told, error.splitlines()[-1]) == (2, [], f"error: {message}")
    assert not (tmp_path / "report").exists()
