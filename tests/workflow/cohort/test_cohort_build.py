"""A whole cohort of slides of known composition: numbers, tables, report."""

from __future__ import annotations

import csv
import json
import math
import time
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dualproto_wsi.errors import DataError, OutputError
from dualproto_wsi.settings.cohort import CohortSettings
from dualproto_wsi.stats.cohort.model import Cohort
from dualproto_wsi.workflow.checks.verify import verify_run
from dualproto_wsi.workflow.cohort.build import Study, build_cohort
from dualproto_wsi.workflow.cohort.write import write_cohort

FAST = CohortSettings(bootstrap=200)


@pytest.fixture(scope="module")
def report(study: Path) -> Path:
    return study / "report" / "of the study"


@pytest.fixture(scope="module")
def cohort(study: Path, report: Path) -> Cohort:
    joined = Study(study / "patients.csv", by="arm", time="months", event="died")
    return build_cohort([study / "results"], report, joined, FAST, title="Made up")


@pytest.fixture(scope="module")
def written(cohort: Cohort, report: Path) -> Path:
    write_cohort(cohort, report)
    return report


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_example_writes_what_segment_would(study: Path) -> None:
    assert [verdict for verdict in verify_run(study / "results") if verdict.problems] == []


def test_every_slide_is_a_row_with_the_right_areas(cohort: Cohort, study: Path) -> None:
    slides = {slide.key: slide for slide in cohort.slides}
    assert len(slides) == 26
    assert slides["blank.tif"].status == "empty"
    assert slides["blank.tif"].values["analysed_mm2"] == 0
    assert slides["blank.tif"].values["tumor_fraction"] is None
    assert (slides["unknown size.tif"].status, slides["unknown size.tif"].values) == ("failed", {})
    for truth in rows(study / "truth.csv"):
        values = slides[truth["slide"]].values
        for name in ("Tumor", "Stroma", "Lymphocyte"):
            assert values[f"{name.lower()}_mm2"] == pytest.approx(float(truth[name]), rel=0.02)
        assert values["necrosis_mm2"] == pytest.approx(float(truth["Necrosis"]), abs=0.003)
        inside = float(truth["spot"]) / (float(truth["spot"]) + float(truth["Tumor"]))
        assert values["intratumoral_lymphocyte_fraction"] == pytest.approx(inside, rel=0.15)
        assert values["mean_confidence"] == pytest.approx(0.8, abs=0.15)


def test_patients_are_sums_of_slides(cohort: Cohort) -> None:
    assert len(cohort.patients) == 12
    for patient in cohort.patients:
        parts = [slide.values for slide in cohort.slides if slide.patient == patient.patient]
        assert len(parts) == len(patient.slides) == 2

        def total(name: str, parts: list[Any] = parts) -> float:
            return math.fsum(part[name] for part in parts)

        values = patient.values
        for name in ("analysed_mm2", "tumor_mm2", "margin_mm2", "tumor_regions"):
            assert values[name] == pytest.approx(total(name))
        stroma, tumor = total("stroma_mm2"), total("tumor_mm2")
        assert values["tumor_stroma_ratio"] == pytest.approx(stroma / (stroma + tumor))
        weighted = math.fsum(part["mean_confidence"] * part["analysed_mm2"] for part in parts)
        assert values["mean_confidence"] == pytest.approx(weighted / total("analysed_mm2"))
        assert values["tumor_region_largest_mm2"] == max(part["tumor_region_largest_mm2"] for part in parts)
        assert patient.about["arm"] == patient.group


def test_groups_are_compared_patient_by_patient(cohort: Cohort) -> None:
    found = {comparison.measure: comparison for comparison in cohort.comparisons}
    margin = found["margin_lymphocyte_fraction"]
    assert (margin.groups, margin.counts) == (("control", "treated"), (6, 6))
    assert margin.effect == -1, "rings are wider in every treated patient"
    assert margin.p is not None and margin.p_adjusted is not None and margin.p <= margin.p_adjusted < 0.05
    assert "few patients: control (6), treated (6)" in margin.warning
    assert "necrosis_of_tumor_fraction" in found
    assert "lymphocyte_fraction" not in found
    summaries = {(s.measure, s.group): s for s in cohort.summaries}
    everyone, treated = (summaries["margin_lymphocyte_fraction", group] for group in ("", "treated"))
    assert (everyone.count, treated.count) == (12, 6)
    assert treated.low is not None and treated.mean is not None and treated.high is not None
    assert treated.low < treated.mean < treated.high
    survival = cohort.survival
    assert survival is not None and survival.groups == ("control", "treated") and survival.at_risk == (6, 6)


def test_what_a_reader_is_told(cohort: Cohort) -> None:
    assert (cohort.title, cohort.model, cohort.by) == ("Made up", "made-up 1", "arm")
    kinds = {(flag.slide, flag.kind) for flag in cohort.flags}
    assert {("blank.tif", "empty"), ("unknown size.tif", "pixel size")} <= kinds
    notes = " ".join(cohort.notes)
    for said in ("put together by area", "200 draws of blocks of about 1 mm", "column 'patient' of slides.csv (24)"):
        assert said in notes
    assert "2 slide(s) of no known patient" in notes


def test_equal_input_gives_equal_numbers(cohort: Cohort, study: Path, report: Path) -> None:
    joined = Study(study / "patients.csv", by="arm", time="months", event="died")
    again = build_cohort([study / "results"], report, joined, FAST, title="Made up")
    for name in ("slides", "patients", "flags", "comparisons", "survival", "notes", "summaries"):
        assert getattr(again, name) == getattr(cohort, name), name


def test_tables(cohort: Cohort, written: Path) -> None:
    names = {path.name for path in written.iterdir()}
    tables = ("cohort", "patients", "summaries", "comparisons", "survival", "flags", "data_dictionary")
    assert names >= {*(f"{name}.csv" for name in tables), "report.html"}
    slides, patients = rows(written / "cohort.csv"), rows(written / "patients.csv")
    assert [row["slide"] for row in slides] == [slide.key for slide in cohort.slides]
    assert [row["patient"] for row in patients] == [patient.patient for patient in cohort.patients]
    told = [row["name"] for row in rows(written / "data_dictionary.csv")]
    assert len(set(told)) == len(told)
    assert set(slides[0]) | set(patients[0]) == set(told)
    failed = next(row for row in slides if row["status"] == "failed")
    assert failed["analysed_mm2"] == ""
    assert failed["error"].endswith("pass --mpp (microns per pixel)")
    assert patients[0]["given_months"] == cohort.patients[0].about["months"]
    for row, slide in zip(slides, cohort.slides, strict=True):
        for name, value in slide.values.items():
            assert row[name] == "" if value is None else float(row[name]) == pytest.approx(value, rel=1e-9)
    assert rows(written / "comparisons.csv")[0]["n treated"] == "6"


def test_parquet_has_the_same_with_types(written: Path) -> None:
    pytest.importorskip("pyarrow")
    table, text = pd.read_parquet(written / "cohort.parquet"), pd.read_csv(written / "cohort.csv")
    assert list(table.columns) == list(text.columns)
    assert table["tumor_fraction"].dtype == np.float64
    assert np.allclose(table["tumor_fraction"], text["tumor_fraction"], equal_nan=True)
    assert table["slide"].tolist() == text["slide"].tolist()


class Links(HTMLParser):
    """Collects what a page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attributes if name in ("href", "src") and value]


def test_links_of_the_report_lead_somewhere(cohort: Cohort, written: Path) -> None:
    from urllib.parse import unquote

    page = Links()
    page.feed((written / "report.html").read_text(encoding="utf-8"))
    relative = [link for link in page.found if not link.startswith(("#", "data:", "http"))]
    assert any("overlay.png" in link for link in relative)
    assert all((written / unquote(link)).exists() for link in relative)
    files = cohort.slides[0].files
    assert {"overlay", "folder", "regions", "labels", "record", "confidence"} <= set(files) or not files


def test_a_later_report_leaves_nothing_of_an_earlier_one(study: Path, tmp_path: Path) -> None:
    joined = Study(study / "patients.csv", by="arm", time="months", event="died")
    write_cohort(build_cohort([study / "results"], tmp_path, joined, CohortSettings(bootstrap=0)), tmp_path)
    assert (tmp_path / "survival.csv").exists()
    again = build_cohort([study / "results"], tmp_path, settings=CohortSettings(bootstrap=0))
    assert len(again.patients) == 12, "slides.csv names them"
    write_cohort(again, tmp_path)
    assert not (tmp_path / "survival.csv").exists()
    assert not (tmp_path / "comparisons.csv").exists()
    assert not list(tmp_path.glob("*.tmp"))
    values = again.slides[0].values
    assert all(value is None for name, value in values.items() if name.endswith(("_low", "_high")))


def test_a_damaged_map_costs_its_slide_alone(synthetic: ModuleType, tmp_path: Path) -> None:
    out, labels = tmp_path / "out", synthetic.Discs(0, 300, 350, 500).draw()
    for name in ("a.tif", "b.tif"):
        synthetic.write_result(out, name, labels)
    path = out / "a.tif" / "labels.tif"
    path.write_bytes(path.read_bytes()[:-60] + b"x" * 60)
    found = build_cohort([out], tmp_path / "report", settings=FAST)
    assert [slide.status for slide in found.slides] == ["failed", "done"]
    assert "labels.tif: cannot be read, is it damaged?" in found.slides[0].error
    assert found.flags[0].kind == "failed"
    assert "No patients are known: every slide stands for itself." in found.notes
    assert found.patients == ()


def test_checks_of_the_picture_pass_through(synthetic: ModuleType, tmp_path: Path) -> None:
    out, labels = tmp_path / "out", synthetic.Discs(0, 300, 350, 500).draw()
    folder = synthetic.write_result(out, "a.tif", labels)
    synthetic.write_result(out, "b.tif", labels)
    data = json.loads((folder / "record.json").read_text())
    data["qc"] = {
        "focus": 30.5,
        "blurred_share": 0.4,
        "haematoxylin_od": 0.2,
        "eosin_od": None,
        "ink_share": 0.25,
        "density": 0.04,
        "flags": ["blurred", "pen", "pale", "little tissue"],
    }
    (folder / "record.json").write_text(json.dumps(data))
    found = build_cohort([out], tmp_path / "report", settings=FAST)
    assert [found.slides[0].values[f"qc_{name}"] for name in ("focus", "blurred", "eosin", "ink")] == [
        30.5,
        0.4,
        None,
        0.25,
    ]
    assert [(flag.kind, flag.text) for flag in found.flags if flag.kind in ("focus", "pen", "stain")] == [
        ("focus", "40% of the windows are blurred; up to 25% is usual."),
        ("pen", "Pen marks cover as much as 25.0% of the tissue; up to 1% is usual."),
        ("stain", "Mean optical density is 0.040; from 0.05 on is usual."),
    ]
    write_cohort(found, tmp_path / "report")
    assert rows(tmp_path / "report" / "cohort.csv")[1]["qc_focus"] == ""


def test_nothing_to_measure(synthetic: ModuleType, tmp_path: Path) -> None:
    synthetic.write_failure(tmp_path / "out", "a.tif", "a.tif: broken")
    with pytest.raises(DataError) as error:
        build_cohort([tmp_path / "out"], tmp_path / "report")
    assert str(error.value) == f"{tmp_path / 'out'}: none of 1 slide(s) has results; a.tif: a.tif: broken"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"id": "case"}, "--id names a column of a table of patients; give it with --metadata"),
        ({"time": "t", "event": "e"}, "--time names a column of a table of patients; give it with --metadata"),
        ({"event": "e"}, "--event names a column of a table of patients; give it with --metadata"),
        (
            {"metadata": Path("x.csv"), "time": "t"},
            "--time and --event need each other: the time to the event or the last visit, and which it was",
        ),
    ],
)
def test_questions_that_make_no_sense(given: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as error:
        Study(**given)
    assert str(error.value) == message


def test_a_report_that_cannot_be_written(cohort: Cohort, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file: cannot be written \(.+\); make room, or choose another -o$"):
        write_cohort(cohort, tmp_path / "file")


@pytest.mark.slow
def test_two_hundred_slides_in_half_a_minute(synthetic: ModuleType, tmp_path: Path) -> None:
    synthetic.write_cohort(tmp_path, 200)
    start = time.process_time()
    joined = Study(tmp_path / "patients.csv", by="arm", time="months", event="died")
    write_cohort(build_cohort([tmp_path / "results"], tmp_path / "report", joined), tmp_path / "report")
    assert time.process_time() - start < 30
