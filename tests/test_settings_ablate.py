"""The file that says what an ablation compares."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualproto_wsi.errors import SettingsError
from dualproto_wsi.settings import read_ablation

EXAMPLE = Path(__file__).parents[1] / "examples" / "ablation_brca_m2c.toml"


def read(tmp_path: Path, text: str):
    path = tmp_path / "a.toml"
    path.write_text(text, encoding="utf-8")
    return read_ablation(path)


def test_variants_lie_upon_the_base(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        seeds = [3, 1]
        refiners = ["none", "fast"]
        [base]
        optimiser.epochs = 7
        objective.diversity = 0.5
        [variants."text only"]
        head.image = false
        [variants.same]
        objective.diversity = 0.0
        """,
    )
    assert found.seeds == (3, 1) and found.refiners == ("none", "fast") and not found.probe
    assert [variant.name for variant in found.variants] == ["text only", "same"]
    one, other = (variant.settings for variant in found.variants)
    assert (one.optimiser.epochs, one.objective.diversity, one.head.image) == (7, 0.5, False)
    assert (other.optimiser.epochs, other.objective.diversity, other.head.image) == (7, 0.0, True)
    assert one.head.channels == (64, 64, 64, 64)  # the recipe's head, but for what is changed


def test_grid_is_a_product(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        [variants.dual]
        [variants.image]
        head.text = false
        [grid]
        "data.descriptions" = [1, 10]
        "head.merge" = ["mean", "softmax"]
        """,
    )
    assert [v.name for v in found.variants][:3] == [
        "dual, data.descriptions=1, head.merge=mean",
        "dual, data.descriptions=1, head.merge=softmax",
        "dual, data.descriptions=10, head.merge=mean",
    ]
    assert len(found.variants) == 8
    assert found.variants[-1].settings.data.descriptions == 10
    assert not found.variants[-1].settings.head.text and found.variants[-1].settings.head.merge == "softmax"


def test_example_names_the_five_rows() -> None:
    found = read_ablation(EXAMPLE)
    assert found.probe and len(found.seeds) == 3
    kinds = [(v.settings.head.kind, v.settings.head.text, v.settings.head.image) for v in found.variants]
    assert kinds[:3] == [("dual", True, True), ("dual", True, False), ("dual", False, True)]
    assert [kind for kind, _, _ in kinds[3:]] == ["cam", "cam"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = [1]", "unknown key 'seed'; known are seeds, probe, refiners, base, variants, grid"),
        ("seeds = []", "seeds is []; it must be a list of different whole numbers"),
        ("seeds = [1, 1]", "different whole numbers"),
        ("seeds = [-1]", "different whole numbers from 0 on"),
        ("probe = 1", "probe is 1; it must be true or false"),
        ('refiners = "fast"', "refiners is 'fast'; it must be a list of none, "),
        ('refiners = ["sharp"]', "refiner is 'sharp'; choose one of"),
        ("base = 3", "base is 3; it must be a table"),
        ("variants.a = 3", "variants.a is 3; it must be a table of settings"),
        ('[grid]\n"head.merge" = "mean"', "grid.head.merge is 'mean'; it must be a list of values"),
        ("[variants.a]\nhead.imag = true", "a.head: unknown key 'imag'"),
        ("[base]\noptimiser.epochs = 0", "epochs is 0; it must be at least 1"),
    ],
)
def test_refusals(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value) and str(caught.value).startswith(str(tmp_path / "a.toml"))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: no such settings file"):
        read_ablation(tmp_path / "none.toml")
