from __future__ import annotations

import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nosuch", "-o", "a.safetensors"], "nosuch/train.txt: no such list of images"),
        (["train", ".", "-o", "a.pt"], "a.pt: a bundle's name ends in .safetensors"),
        (["train", ".", "-o", "a.safetensors", "--classes", "Fat"], "no class 'Fat'; classes are Tumor"),
        (["train", ".", "-o", "a.safetensors", "--epochs", "0"], "epochs is 0; it must be at least 1"),
        (["train", ".", "-o", "a.safetensors", "--config", "no.toml"], "no.toml: no such settings file"),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
