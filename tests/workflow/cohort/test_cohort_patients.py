"""Slides joined with patients: every way, and every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualproto_wsi.errors import DataError
from dualproto_wsi.workflow.cohort.patients import Patients, check_groups, join_patients
from dualproto_wsi.workflow.cohort.results import SlideResult
from dualproto_wsi.workflow.cohort.table import read_metadata
from dualproto_wsi.workflow.cohort.times import read_survival


def slide(name: str, **about: str) -> SlideResult:
    return SlideResult(name, f"/slides/{name}", Path("out"), None, None, "", about, name)


class Table:
    """Writes a table and joins it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def join(self, text: str, slides: list[SlideResult], id_column: str = "", by: str = "") -> Patients:
        self.path.write_text(text, encoding="utf-8")
        return join_patients(slides, read_metadata(self.path), id_column, by)

    def refuse(self, text: str, slides: list[SlideResult], id_column: str = "", by: str = "") -> str:
        with pytest.raises(DataError) as error:
            self.join(text, slides, id_column, by)
        return str(error.value).replace(str(self.path), "TABLE")


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "patients.csv")


SLIDES = [slide("a.svs", patient="P1"), slide("b.svs", patient="p2"), slide("c.svs", patient="P1")]


def test_by_the_column_of_slides_csv(table: Table) -> None:
    found = table.join("\ufeffPatient;Arm;age\nP1;x;3,5\nP2;y;\nP9;x;1\n", SLIDES, by="arm")
    assert found.of_slide == {"a.svs": "P1", "b.svs": "P2", "c.svs": "P1"}
    assert found.group == {"P1": "x", "P2": "y", "P9": "x"}
    assert found.about["P1"] == {"Patient": "P1", "Arm": "x", "age": "3,5"}
    assert found.notes == [
        "Patients of slides are from: column 'patient' of slides.csv (3).",
        "1 patient(s) of patients.csv have no slide here: P9.",
    ]


def test_by_the_tables_own_column_of_slides(table: Table) -> None:
    text = "case,slide,arm,block\nP1,/x/a.svs,x,1\nP1,C.svs,x,2\nP3,b,y,1\n"
    found = table.join(
        text, [slide("a.svs"), slide("b.svs", patient="other"), slide("c.svs"), slide("d.svs")], by="arm"
    )
    assert found.of_slide == {"a.svs": "P1", "b.svs": "P3", "c.svs": "P1"}
    assert found.about["P1"] == {"case": "P1", "arm": "x"}, "what differs from slide to slide is of no patient"
    assert found.notes == [
        "Patients of slides are from: column 'slide' of patients.csv (3).",
        "1 slide(s) of no known patient are in no patient's figures: d.svs.",
    ]


def test_by_barcode_and_by_name(table: Table) -> None:
    slides = [
        slide("TCGA-AB-1234-01Z-00-DX1.svs"),
        slide("tcga-zz-0001.svs"),
        slide("P7.ndpi"),
        slide("x.svs", id="P8"),
    ]
    found = table.join("patient,arm\nTCGA-AB-1234,x\nP7,y\nP8,\n", slides, by="arm")
    assert found.of_slide == {
        "TCGA-AB-1234-01Z-00-DX1.svs": "TCGA-AB-1234",
        "tcga-zz-0001.svs": "TCGA-ZZ-0001",
        "P7.ndpi": "P7",
        "x.svs": "P8",
    }
    assert found.notes == [
        "Patients of slides are from: TCGA barcode in the file's name (2); name of the file (1); column 'id' of "
        "slides.csv (1).",
        "1 patient(s) with slides are not in patients.csv, and so in no group: TCGA-ZZ-0001.",
        "1 patient(s) have an empty 'arm' and are in no group: P8.",
    ]


def test_without_a_table() -> None:
    found = join_patients([slide("a.svs", patient="P1", group="x"), slide("b.svs")], None, "", "group")
    assert (found.of_slide, found.group) == ({"a.svs": "P1"}, {"P1": "x"})
    assert found.notes[1] == "1 slide(s) of no known patient are in no patient's figures: b.svs."
    assert join_patients([slide("a.svs")], None, "", "").notes == [
        "No patients are known: every slide stands for itself."
    ]


def refused(slides: list[SlideResult], by: str) -> str:
    with pytest.raises(DataError) as error:
        join_patients(slides, None, "", by)
    return str(error.value)


def test_groups_without_a_table_are_refused() -> None:
    assert refused([slide("a.svs", arm="x", site="k")], "group") == (
        "slides.csv: no column 'group' for --by; its columns are arm, site; or give --metadata"
    )
    assert refused([slide("a.svs", group="x")], "group") == (
        "--by group: groups are compared patient by patient, and no patients are known; give --metadata, or a column "
        "'patient' in the table for `segment`"
    )
    assert refused([slide("a.svs", patient="P1", group="x"), slide("b.svs", patient="P1", group="y")], "group") == (
        "slides.csv: patient 'P1' is 'x' and 'y' in column 'group'; make it one"
    )


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("patient,arm\nP1,x\n", {"by": "group"}, "TABLE: no column 'group' for --by; its columns are patient, arm"),
        (
            "patient,arm\nP1,x\n",
            {"id_column": "case"},
            "TABLE: no column 'case' for --id; its columns are patient, arm",
        ),
        ("name,arm\nP1,x\n", {}, "TABLE: no column of patients among name, arm; name it with --id COLUMN"),
        (
            "patient,arm\nP1,x\nP2,y\np1,x\n",
            {},
            "TABLE, line 4, column 'patient': 'p1' is in line 2, too; a line a patient, or a column 'slide'",
        ),
        ("patient,arm\nP1,x\n,y\n", {}, "TABLE, line 3, column 'patient': '' is empty; name the patient"),
        (
            "patient,slide\nP1,a.svs\nP2,dir/A.svs\n",
            {},
            "TABLE, line 3, column 'slide': 'dir/A.svs' is in line 2, too; name each slide once",
        ),
        (
            "patient,slide,arm\nP1,a.svs,x\nP1,c.svs,y\n",
            {"by": "arm"},
            "TABLE, line 3, column 'arm': 'y' but 'P1' is 'x' in line 2; a patient is in one group",
        ),
        (
            "patient,arm\nX1,x\nX2,y\n",
            {},
            "TABLE: no slide is of a patient in its column 'patient', such as 'X1'; slides are P1, p2, P1; add a "
            "column 'slide' with the files' names",
        ),
        ("", {}, "TABLE: the table is empty; its first line names the columns"),
        ("patient,arm\n\n", {}, "TABLE: no lines below the one that names the columns; add a line a patient"),
        ("patient,arm,Arm\nP1,x,y\n", {}, "TABLE, line 1: column name 'arm' is there twice; rename it"),
        ("patient,,arm\nP1,x,y\n", {}, "TABLE, line 1: column name '' is empty; rename it"),
        (
            "patient,arm\nP1,x,7\n",
            {},
            "TABLE, line 2: 3 cells for 2 columns; put values that hold a separator in quotes",
        ),
        ('patient,arm\n"P1"x,y\n', {}, "TABLE, line 2: not CSV (',' expected after '\"')"),
    ],
)
def test_mistakes_in_the_table(table: Table, text: str, options: dict[str, str], message: str) -> None:
    assert table.refuse(text, SLIDES, **options) == message


def test_groups_that_cannot_be_compared(table: Table) -> None:
    slides = [slide(f"{n}.svs", patient=f"P{n}") for n in range(20)]
    text = "patient,age,arm,empty\n" + "".join(f"P{n},{n},x,\n" for n in range(20))
    with pytest.raises(DataError) as error:
        check_groups(table.join(text, slides, by="age"), "age")
    assert str(error.value) == "--by age: 20 groups (0, 1, 10 and 17 more); name a column of at most 12, or make one"
    for column, count in (("arm", 1), ("empty", 0)):
        assert check_groups(table.join(text, slides, by=column), column) == [
            f"Nothing is compared: of the patients with slides, '{column}' knows {count} group(s)."
        ]
    assert check_groups(table.join(text, slides), "") == []


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.csv: no such table; check the path of --metadata$"):
        read_metadata(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\); --metadata needs a CSV file$"):
        read_metadata(tmp_path)
    (tmp_path / "old.csv").write_bytes("patient\nMüller\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"old.csv: not in UTF-8; in Excel save it as 'CSV UTF-8'$"):
        read_metadata(tmp_path / "old.csv")


def test_survival(table: Table) -> None:
    text = "patient,arm,time,event\nP1,x,10,1\nP2,y,20.5,alive\nP8,x,7,1\nP3,x,5,Dead\nP4,,5,1\nP5,y,,1\n"
    slides = [slide(f"{n}.svs", patient=f"P{n}") for n in (1, 2, 3, 4, 5)]
    patients = table.join(text, slides, by="arm")
    found, notes = read_survival(read_metadata(table.path), patients, "Time", "event")
    assert found is not None
    assert (found.groups, found.at_risk, found.times) == (("x", "y"), (2, 1), ((0.0, 5.0, 10.0), (0.0, 20.5)))
    assert notes[1] == "1 patient(s) have no 'time' or 'event' and are in no curve: P5."
    everyone, _ = read_survival(read_metadata(table.path), table.join(text, slides), "time", "event")
    assert everyone is not None and everyone.at_risk == (4,) and everyone.groups == ("",)
    assert read_survival(None, patients, "", "") == (None, [])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "P1,soon,1",
            "TABLE, line 2, column 'time': 'soon' is no number; give the time to the event or the last visit",
        ),
        ("P1,-1,1", "TABLE, line 2, column 'time': '-1' is no time; it must be 0 or more"),
        ("P1,nan,1", "TABLE, line 2, column 'time': 'nan' is no time; it must be 0 or more"),
        (
            "P1,3,maybe",
            "TABLE, line 2, column 'event': 'maybe' is neither 1 (the event came) nor 0 (last seen without it)",
        ),
        (
            "P1,,1",
            "TABLE, line 2, column 'time': '' and no other line has a time and an event of a patient with slides",
        ),
    ],
)
def test_mistakes_in_times(table: Table, line: str, message: str) -> None:
    patients = table.join(f"patient,time,event\n{line}\n", SLIDES)
    with pytest.raises(DataError) as error:
        read_survival(read_metadata(table.path), patients, "time", "event")
    assert str(error.value).replace(str(table.path), "TABLE") == message
    with pytest.raises(DataError, match="no column 'died' for --event; its columns are patient, time, event"):
        read_survival(read_metadata(table.path), patients, "time", "died")
