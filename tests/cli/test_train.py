"""``dualproto-wsi train``: its options, its settings file, and ``config train``."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import main
from dualproto_wsi.settings import train_preset, train_settings


def invoke(*arguments: object):
    return CliRunner().invoke(main, list(map(str, arguments)))


def shown(*arguments: object):
    result = invoke("config", "train", *arguments)
    assert result.exit_code == 0, result.output
    return train_settings(tomllib.loads(result.output))


def test_options_win_over_the_file_and_the_file_over_the_recipe(tmp_path: Path) -> None:
    file = tmp_path / "train.toml"
    file.write_text('preset = "released"\n[optimiser]\nepochs = 3\nbatch_size = 5\n[encoder]\nname = "conch"\n')
    settings = shown("--config", file, "--epochs", 7, "--set", "objective.diversity=0.5", "--weights", "w.bin")
    assert (settings.optimiser.epochs, settings.optimiser.batch_size) == (7, 5)
    assert settings.objective.diversity == 0.5
    assert (settings.encoder.name, settings.encoder.weights, settings.preset) == ("conch", "w.bin", "released")
    assert settings.text == train_preset("released", "conch").text


def test_lists_words_and_nothing() -> None:
    settings = shown(
        "--classes", "Tumor, Stroma", "--test-split", "", "--set", "data.crop_sizes=[]", "--set", "head.merge=mean"
    )
    assert settings.data.classes == ("Tumor", "Stroma")
    assert (settings.data.test_split, settings.data.crop_sizes, settings.head.merge) == ("", (), "mean")
    assert shown("--classes", "").data.classes == ()
    assert shown() == train_preset("default")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "epochs"], "error: --set epochs: write KEY=VALUE, such as objective.diversity=0\n"),
        (
            ["--set", "seed.x=3", "--set", "seed=1", "--set", "seed.x=3"],
            "error: seed.x: 'seed' is no section of the settings\n",
        ),
        (["--set", "optimiser.epoch=3"], "error: command line.optimiser: unknown key 'epoch'"),
        (
            ["--valid-share", "0.2", "--folds", "4"],
            "error: command line.validation: folds is 4, and images are held out",
        ),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str) -> None:
    result = invoke("train", ".", "-o", "a.safetensors", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
