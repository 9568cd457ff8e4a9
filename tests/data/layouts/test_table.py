from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.data.images import ABSENT, BACKGROUND, NOT_LABELLED, PRESENT, UNKNOWN, Dataset
from dualproto_wsi.data.layouts import find_splits, read_dataset
from dualproto_wsi.errors import DataError


def scheme(*names: str) -> ClassScheme:
    return ClassScheme(tuple(TissueClass(i, name, (i, 0, 0)) for i, name in enumerate(names, start=1)))


TWO = scheme("Tumor", "Stroma")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "b.png", "sub/c.png"):
        Image.new("RGB", (6, 1)).save(tmp_path / name)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder / "labels.csv"


def read(root: Path, split: str = "train", classes: ClassScheme = TWO, mpp: float | None = 0.5) -> Dataset:
    return read_dataset(root, "table", split, classes, mpp)


def refusal(folder: Path, text: str, split: str = "train", mpp: float | None = 0.5) -> str:
    table = write(folder, text)
    with pytest.raises(DataError) as error:
        read(folder, split, mpp=mpp)
    return str(error.value).replace(str(table), "TABLE").replace(str(folder), "FOLDER")


def test_every_column(folder: Path) -> None:
    Image.fromarray(np.array([[0, 1, 2, 255, 1, 0]], np.uint8)).save(folder / "m.png")
    columns, first = "path;STR;Patient;group;split;mask;mpp;Tumour", "a.png;1;P1;site 1;train;m.png;0,5;?"
    table = write(folder, f"\ufeff{columns}\n{first}\n\nsub/c.png;0;;;val;;0,5;1\n")
    for root in (folder, table):
        found = read(root, mpp=None)
        assert (found.name, found.mpp, found.patients) == (folder.name, 0.5, ("P1",))
    (image,) = found.images
    assert (image.path, image.group) == (folder / "a.png", "site 1")
    assert image.labels.tolist() == [UNKNOWN, PRESENT]
    mask = image.read_mask()
    assert mask is not None
    assert mask.tolist() == [[NOT_LABELLED, 1, 0, BACKGROUND, 1, NOT_LABELLED]]
    (image,) = read(folder, "val", mpp=None).images
    assert (image.patient, image.group, image.mask) == ("c", "", None)
    assert image.labels.tolist() == [PRESENT, ABSENT]
    assert read(folder, mpp=0.25).mpp == 0.25
    assert find_splits(folder, "table") == ("train", "val")


def test_without_a_column_split_all_lines_are_any_split(folder: Path) -> None:
    write(folder, "path,Tumor,Stroma\na.png,1,0\nb.png,,1\n")
    assert [image.labels.tolist() for image in read(folder, "whatever").images] == [[1, 0], [UNKNOWN, 1]]
    assert find_splits(folder, "table") == ()


def test_classes_shared_in_part(folder: Path) -> None:
    Image.fromarray(np.array([[0, 1, 2, 2, 2, 255]], np.uint8)).save(folder / "m.png")
    write(folder, "path,Fat,Stroma,mask\na.png,1,1,m.png\n")
    (image,) = read_dataset(folder, "table", "train", TWO, 0.5, partial=True).images
    assert image.labels.tolist() == [UNKNOWN, PRESENT]
    mask = image.read_mask()
    assert mask is not None
    assert mask.tolist() == [[NOT_LABELLED, BACKGROUND, 1, 1, 1, BACKGROUND]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "TABLE: the table is empty; its first line names the columns: path, and one a class"),
        (
            "Tumor,Stroma\n1,0\n",
            "TABLE, line 1: no column 'path' among Tumor, Stroma; needed are path and a column a class, known besides"
            " are patient, group, split, mask, mpp",
        ),
        ("\n path , Tumor,tumor,Tumor\n", "TABLE, line 2: column name 'Tumor' is there twice"),
        ("path,,Tumor\n", "TABLE, line 1: column name '' is empty"),
        (
            "path,patient\na.png,P\n",
            "TABLE: no column of a class among path, patient; add one a class, with 1 or 0",
        ),
        (
            "path,Tumor,Stroma,pattient\na.png,1,0,P\n",
            "TABLE: 'pattient' is labelled, too, but is none of the classes wanted (Tumor, Stroma); add it to"
            " --classes, or take the column out: other columns are patient, group, split, mask, mpp",
        ),
        (
            "path,Tumor,Stroma\n\na.png,1,yes\n",
            "TABLE, line 3, column 'Stroma': 'yes' is no label; write 1 for present, 0 for absent, ? or nothing for not"
            " known",
        ),
        ("path,Tumor,Stroma\na.png,1,2\n", "TABLE, line 2, column 'Stroma': '2' is no label; write 1 for present"),
        (
            "path,Tumor,Stroma\nx.png,1,0\n",
            "TABLE, line 2, column 'path': 'x.png' is no file (FOLDER/x.png); correct the path or complete the data",
        ),
        ("path,Tumor,Stroma\n,1,0\n", "TABLE, line 2, column 'path': '' is no file (FOLDER)"),
        (
            "path,Tumor,Stroma,mask\na.png,1,0,x.png\n",
            "TABLE, line 2, column 'mask': 'x.png' is no file (FOLDER/x.png); correct the path or complete the data",
        ),
        (
            "path,Tumor,Stroma\na.png,1,0\nb.png,1,1\nsub/../a.png,1,0\n",
            "TABLE, line 4, column 'path': 'sub/../a.png' is in line 2, too; name each image once",
        ),
        (
            "path,Tumor,Stroma\na.png,1,0,0\n",
            "TABLE, line 2: 4 cells for 3 columns; put names that hold a separator in quotes",
        ),
        ('path,Tumor,Stroma\na.png,1,"0\n', "TABLE, line 2: not CSV (unexpected end of data); correct it"),
        ("path,Tumor,Stroma,split\na.png,1,0,val\n", "FOLDER: no image in split 'train'; it has val"),
        ("path,Tumor,Stroma\n", "FOLDER: no image in split 'train'; it has none"),
    ],
)
def test_wrong_tables_are_refused(folder: Path, text: str, message: str) -> None:
    assert refusal(folder, text).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,Tumor,Stroma\na.png,1,0\n", "TABLE: no pixel size; add a column mpp (microns per pixel), or pass --mpp"),
        (
            "path,Tumor,Stroma,mpp\na.png,1,0,0.5\nb.png,1,0,1/2\n",
            "TABLE, line 3, column 'mpp': '1/2' is no pixel size; microns per pixel, such as 0.5",
        ),
        (
            "path,Tumor,Stroma,mpp\na.png,1,0,0.5\nb.png,1,0,\n",
            "TABLE, line 3, column 'mpp': '' is no pixel size; microns per pixel, such as 0.5",
        ),
        ("path,Tumor,Stroma,mpp\na.png,1,0,0\n", "TABLE, line 2, column 'mpp': '0' is no pixel size"),
        (
            "path,Tumor,Stroma,mpp\na.png,1,0,0.50\nsub/c.png,1,0,0.5\nb.png,1,0,0.25\n",
            "TABLE, line 4, column 'mpp': '0.25' is not the pixel size of the lines above; bring all images to one, and"
            " pass --mpp",
        ),
    ],
)
def test_the_pixel_size_is_one_for_all(folder: Path, text: str, message: str) -> None:
    assert refusal(folder, text, mpp=None).startswith(message)
    assert read(folder, mpp=0.4).mpp == 0.4


def test_tables_that_cannot_be_read(folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"labels\.csv: no such table; --layout table needs a CSV file, or a folder with"
    ):
        read(folder)
    (folder / "labels.csv").write_bytes("path,Tümor\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"labels\.csv: not in UTF-8; in Excel save it as 'CSV UTF-8'"):
        read(folder)
