from __future__ import annotations

import re

import pytest

from dualproto_wsi.errors import SettingsError
from dualproto_wsi.model.prompts import load_vocabulary, plain
from dualproto_wsi.model.synonyms import load_synonyms, read_texts

FAT = '[Fat]\ntemplates = ["{cells} with {nuclei}", "{cells}, and {cells} again"]\n'


def test_our_synonyms_make_different_texts_for_every_class_of_the_breast_vocabulary():
    synonyms = load_synonyms()
    for tissue in load_vocabulary("bcss"):
        texts = synonyms[tissue.name.casefold()].texts()
        assert len({plain(text) for text in texts}) == len(texts) >= 100
        assert not {plain(text) for text in texts} & {plain(text) for text in tissue.descriptions}
        assert all(not set("{}") & set(text) for text in texts)


def test_every_combination_and_a_sample_of_them(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(FAT + 'cells = ["fat", "oil"]\nnuclei = ["rims", "dots"]', encoding="utf-8")
    fat = load_synonyms(path)["fat"]
    assert fat.texts() == [
        *("fat with rims", "fat with dots", "oil with rims", "oil with dots"),
        *("fat, and fat again", "oil, and oil again"),
    ]
    assert set(fat.sample(99)) == set(fat.texts())
    assert fat.sample(3) == fat.sample(3)
    assert len(set(fat.sample(3))) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[Fat", "not valid TOML"),
        ("Fat = 1", "[Fat] has no templates; a class is a table with templates and their parts"),
        ('[Fat]\ncells = ["a"]', "[Fat] has no templates; a class is a table with templates and their parts"),
        (FAT + "cells = []", "[Fat]: cells is []; it must be a list of texts, none of them empty"),
        (FAT + 'cells = ["a", " "]', "[Fat]: cells is ['a', ' ']; it must be a list of texts, none of them empty"),
        (FAT + 'cells = "a"', "[Fat]: cells is 'a'; it must be a list of texts, none of them empty"),
        (
            FAT + 'cells = ["a"]',
            "[Fat]: template '{cells} with {nuclei}' names {nuclei}; add a list nuclei = [...]",
        ),
        (
            FAT + 'cells = ["a"]\nnuclei = ["b"]\ncolour = ["c"]',
            "[Fat]: no template names {colour}; write it into one or leave the list out",
        ),
        ('[Fat]\ntemplates = ["{a"]', "[Fat]: template '{a': expected '}' before end of string"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, message):
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=re.escape(f"{path}: {message}")):
        load_synonyms(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(
        SettingsError, match=r"none\.toml: no synonyms file \(No such.*\); leave --synonyms out for ours"
    ):
        load_synonyms(tmp_path / "none.toml")


def test_texts_that_somebody_wrote(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("# from a model\n\nfat: clear: round cells\n Stroma :pink \nFat:x\n", encoding="utf-8")
    assert read_texts(path, ["Stroma", "Fat", "Tumor"]) == {"Fat": ["clear: round cells", "x"], "Stroma": ["pink"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Fat: a\npink", "line 2 is 'pink'; it must be `Class: text`"),
        (b"Fat: ", "line 1 is 'Fat: '; it must be `Class: text`"),
        (b"\nBone: a", "line 2 has the class 'Bone'; classes are Fat, Tumor"),
        (b"Fat: \xff", "not UTF-8 text (invalid start byte); save it as UTF-8"),
        (None, "cannot be read (No such file or directory); give a text file"),
    ],
)
def test_wrong_texts_are_refused(tmp_path, content, message):
    path = tmp_path / "texts.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=re.escape(f"--from {path}: {message}")):
        read_texts(path, ["Fat", "Tumor"])
