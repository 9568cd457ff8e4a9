from __future__ import annotations

import csv
from pathlib import Path

import pytest

from dualproto_wsi.errors import OutputError
from dualproto_wsi.workflow.batch.outcome import SlideOutcome, SlideTable


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "slides.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def done(path: str, **areas: float) -> SlideOutcome:
    return SlideOutcome(
        Path(path), Path("out/a"), "done", mm2=areas, fractions=dict.fromkeys(areas, 0.5), analysed_mm2=2
    )


def test_rows_of_other_slides_stay_and_a_slide_has_one_row(tmp_path):
    SlideTable(tmp_path).add(done("x/a.svs", Tumor=1.0))
    table = SlideTable(tmp_path)
    table.add(SlideOutcome(Path("x/b.svs"), None, "failed", error="b.svs: no, really"))
    table.add(done("x/a.svs", Tumor=3.0, Stroma=1.0))
    rows = read(tmp_path)
    assert [row["slide"] for row in rows] == ["a.svs", "b.svs"]
    assert rows[0]["Tumor_mm2"] == "3"
    assert rows[1]["Stroma_mm2"] == ""
    assert rows[1]["error"] == "b.svs: no, really"
    assert rows[1]["analysed_mm2"] == ""
    assert list(rows[0])[-2:] == ["seconds", "error"]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["slides.csv"]


def test_fractions_of_nothing_are_empty_cells(tmp_path):
    outcome = SlideOutcome(Path("a.svs"), None, "empty", mm2={"Tumor": 0.0}, fractions={"Tumor": float("nan")})
    SlideTable(tmp_path).add(outcome)
    assert read(tmp_path)[0]["Tumor_fraction"] == ""
    assert read(tmp_path)[0]["analysed_mm2"] == "0"


def test_a_table_of_another_program_is_not_overwritten(tmp_path):
    (tmp_path / "slides.csv").write_text("name,value\na,1\n")
    with pytest.raises(OutputError, match=r"not a table of this program \(no column 'path'\)"):
        SlideTable(tmp_path)
    assert (tmp_path / "slides.csv").read_text() == "name,value\na,1\n"
