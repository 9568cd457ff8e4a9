from __future__ import annotations

import re
from pathlib import Path

import pytest

from dualproto_wsi.errors import SettingsError, SlideNotFound
from dualproto_wsi.workflow.batch.slide_list import SlideItem, gather_slides, read_slide_list


@pytest.fixture
def table(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "slides.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_all_columns(table, tmp_path):
    (tmp_path / "roi.geojson").touch()
    found = read_slide_list(
        table(
            "path,id,mpp,group,regions,stain\n"
            "a.svs,P1,0.25,control,roi.geojson,H&E\n"
            f"{tmp_path / 'sub folder' / 'ü.svs'},,,,,\n"
        )
    )
    assert found == [
        SlideItem(tmp_path / "a.svs", "P1", 0.25, "control", tmp_path / "roi.geojson", (("stain", "H&E"),)),
        SlideItem(tmp_path / "sub folder" / "ü.svs", metadata=(("stain", ""),)),
    ]


def test_only_paths(table, tmp_path):
    assert read_slide_list(table("path\na.svs\nb.svs\n")) == [
        SlideItem(tmp_path / "a.svs"),
        SlideItem(tmp_path / "b.svs"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "path;mpp;response\na, b.svs;0,25;yes\n",
        "sep=;\r\npath;mpp;response\r\na, b.svs;0,25;yes\r\n",
        "\ufeffPath;MPP;response\r\n\r\na, b.svs;0.25;yes\r\n;;\r\n",
        "path\tmpp\tresponse\na, b.svs\t0,25\tyes\n",
        'path,mpp,response,\n"a, b.svs", 0.25 ,yes,\n',
    ],
)
def test_what_spreadsheets_write(table, tmp_path, text):
    assert read_slide_list(table(text)) == [
        SlideItem(tmp_path / "a, b.svs", mpp=0.25, metadata=(("response", "yes"),)),
    ]


def test_a_short_line_has_empty_cells(table, tmp_path):
    assert read_slide_list(table("path,id,mpp\na.svs\n")) == [SlideItem(tmp_path / "a.svs")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "slides.csv: the table is empty; its first line names the columns: path, id, mpp, group, regions"),
        ("\n,,\n", "slides.csv: the table is empty"),
        ("path\n", "slides.csv: no slides below the line that names the columns; add a line a slide"),
        ("file,mpp\na,1\n", "slides.csv, line 1: no column 'path' among file, mpp; known are path, id, mpp,"),
        ("path,mmp\na,1\n", "slides.csv, line 1: column 'mmp' is not known; did you mean 'mpp'? If not, rename it"),
        ("path,Region\na,1\n", "column 'Region' is not known; did you mean 'regions'?"),
        ("path,groups\na,1\n", "column 'groups' is not known; did you mean 'group'?"),
        ("path,,x\na,,1\n", "line 1: column name '' is empty"),
        ("path,x,x\na,,1\n", "line 1: column name 'x' is there twice"),
        ("path,Path\na,b\n", "line 1: column name 'path' is there twice"),
        ("path,status\na,done\n", "column 'status' is one that slides.csv of a run has itself; rename it"),
        ("path,Tumor_mm2\na,1\n", "column 'Tumor_mm2' is one that slides.csv of a run has itself"),
        ("path,mpp\na,1\n\nb,half\n", "line 4, column 'mpp': 'half' is no number; microns per pixel, such as 0.25"),
        ("path,mpp\na,250\n", "line 2, column 'mpp': '250' is out of range; microns per pixel lie between 0.01 and"),
        ("path,mpp\na,nan\n", "line 2, column 'mpp': 'nan' is out of range"),
        ("sep=;\npath;mpp\na;1,2,3\n", "line 3, column 'mpp': '1,2,3' is no number"),
        ("path,id\n,P1\n", "line 2, column 'path': '' is empty; name a slide file"),
        ("path,id\na,1\n./a,2\n", "line 3, column 'path': './a' is in line 2, too; name each once"),
        ("path,id\na,1\nb,1\n", "line 3, column 'id': '1' is in line 2, too; name each once"),
        ("path,mpp\na,b,0.5\n", "line 2: 3 cells for 2 columns, '0.5' is too much; put names that"),
        ('path\n"a\n', "line 2: not CSV (unexpected end of data)"),
        ("path,regions\na,gone.geojson\n", "line 2, column 'regions': 'gone.geojson' is not there ("),
        ("path,regions\na,b.xml\n", "'b.xml' is no kind of file for regions; use .geojson, .geojson.gz, .json,"),
        (b"path\n\xfc.svs\n", "slides.csv: not in UTF-8; in Excel save it as 'CSV UTF-8'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_file_line_column_and_value(table, text, message):
    path = table(text)
    with pytest.raises(SettingsError, match=re.escape(message)) as caught:
        read_slide_list(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["patient", "pid", "side", "grade", "age_group", "subgroup", "map", "stage", "path_id"]
)
def test_columns_that_studies_have_are_no_slips(table, name):
    if name == "map":  # as near to "mpp" as a slip is
        with pytest.raises(SettingsError, match="If not, rename it"):
            read_slide_list(table(f"path,{name}\na,1\n"))
    else:
        assert read_slide_list(table(f"path,{name}\na,1\n"))[0].metadata == ((name, "1"),)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(SlideNotFound, match=r"slides\.csv: no such table of slides; check the path"):
        read_slide_list(tmp_path / "slides.csv")


def test_a_table_that_is_a_folder(tmp_path):
    (tmp_path / "slides.csv").mkdir()
    with pytest.raises(SettingsError, match=r"slides\.csv: cannot be read \("):
        read_slide_list(tmp_path / "slides.csv")


def test_what_a_table_says_counts_before_what_a_folder_finds(table, tmp_path):
    (tmp_path / "a.svs").touch()
    (tmp_path / "b.svs").touch()
    path = table("path,mpp\nb.svs,0.5\n")
    assert gather_slides([tmp_path, path]) == [SlideItem(tmp_path / "a.svs"), SlideItem(tmp_path / "b.svs", mpp=0.5)]
    assert gather_slides([path, tmp_path]) == [SlideItem(tmp_path / "b.svs", mpp=0.5), SlideItem(tmp_path / "a.svs")]


def test_two_tables_must_not_name_one_slide(table, tmp_path):
    path = table("path\na.svs\n")
    other = tmp_path / "other.CSV"
    other.write_text("path\na.svs\n")
    with pytest.raises(SettingsError, match=r"other\.CSV: .*a\.svs is in .*slides\.csv, too; name each slide once"):
        gather_slides([path, other])
