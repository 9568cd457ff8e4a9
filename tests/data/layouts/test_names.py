from __future__ import annotations

from pathlib import Path

import pytest

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.data.layouts.names import SYNONYMS, match_classes, patient_of, same_class
from dualproto_wsi.errors import DataError

WHERE = Path("data")


def scheme(*names: str) -> ClassScheme:
    return ClassScheme(tuple(TissueClass(i, name, (i, 0, 0)) for i, name in enumerate(names, start=1)))


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("TCGA-A1-A0SK-DX1_xmin45749_ymin25055_MPP-0.2500+0[1101].png", "TCGA-A1-A0SK"),
        ("TCGA-A7-A0D9-01Z-00-DX2_18001_13001_1000_1000_0.9824.png", "TCGA-A7-A0D9"),
        ("1031280-2300-27920-[1 0 0 1].png", "1031280"),
        ("385277-44539-46781.png", "385277"),
        ("436_1024_0[1, 0, 1].png", "436"),
        ("case-7_xmin3_ymin4.png", "case-7"),
        ("phantom-003+12[0110].png", "phantom-003"),
        ("00.png", "00"),
        ("[1010].png", "[1010]"),
        ("study-4.png", "study-4"),
    ],
)
def test_patients_by_file_name(name: str, patient: str) -> None:
    assert patient_of(name) == patient


def test_synonyms() -> None:
    assert same_class("tumour") == same_class("TE") == same_class("Tumor_Epithelial") == same_class("Tumor")
    assert same_class("Bone") == same_class(" bone ")
    everything = [same_class(name) for row in SYNONYMS for name in row]
    assert len(set(everything)) == len(SYNONYMS)


def test_classes_are_found_in_any_order_by_any_of_their_names() -> None:
    wanted = scheme("Necrosis", "Tumour", "Bone")
    assert match_classes(WHERE, ["TUM", "bone", "NEC"], wanted) == [1, 2, 0]


def test_differing_classes() -> None:
    with pytest.raises(DataError) as error:
        match_classes(WHERE, ["TUM", "STR"], scheme("Tumor", "Stroma", "Bone"))
    assert (
        str(error.value)
        == "data: nothing is labelled 'Bone'; the data has TUM, STR: name the classes wanted with --classes"
    )
    with pytest.raises(DataError) as error:
        match_classes(WHERE, ["TUM", "STR", "Bone"], scheme("Tumor", "Stroma"))
    assert str(error.value) == (
        "data: 'Bone' is labelled, too, but is none of the classes wanted (Tumor, Stroma); add it to --classes"
    )
    with pytest.raises(DataError, match="data: 'Tumor' and 'TE' mean the same class; keep one"):
        match_classes(WHERE, ["Tumor"], scheme("Tumor", "TE"))


def test_classes_may_differ_where_that_is_wanted_but_not_all() -> None:
    assert match_classes(WHERE, ["TUM", "Fat"], scheme("Bone", "Tumor"), partial=True) == [1, None]
    with pytest.raises(DataError, match="nothing is labelled 'Bone'; the data has TUM, Fat"):
        match_classes(WHERE, ["TUM", "Fat"], scheme("Bone"), partial=True)
