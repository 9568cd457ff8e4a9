"""``dualproto-wsi models``."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import main
from dualproto_wsi.model.checkpoint import list_models

needs_built_in = pytest.mark.skipif(not list_models(), reason="no built-in model is in the package yet")


def test_help_names_the_three_verbs():
    result = CliRunner().invoke(main, ["models", "--help"])
    assert result.exit_code == 0
    assert all(f"\n  {verb}" in result.output for verb in ("list", "show", "import"))


@needs_built_in
def test_list_says_encoder_and_classes():
    shown = CliRunner().invoke(main, ["models", "list"])
    assert shown.exit_code == 0
    rows = json.loads(CliRunner().invoke(main, ["models", "list", "--json"]).stdout)
    assert [row["name"] for row in rows] == [line.split()[0] for line in shown.stdout.splitlines()]
    assert rows[0]["default"] is True
    assert all(row["encoder"] in shown.stdout and row["classes"][0] in shown.stdout for row in rows)


@needs_built_in
def test_show_prints_the_card():
    shown = CliRunner().invoke(main, ["models", "show", "builtin"])
    card = json.loads(CliRunner().invoke(main, ["models", "show", "builtin", "--json"]).stdout)
    assert shown.exit_code == 0
    assert card["encoder_hash"] in shown.stdout
    assert card["licence"] in shown.stdout


def test_show_and_import_of_what_is_not_there(tmp_path):
    result = CliRunner().invoke(main, ["models", "show", "nothing"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error: nothing: neither a model bundle file nor a built-in model" in result.stderr
    result = CliRunner().invoke(
        main, ["models", "import", str(tmp_path / "gone.pth"), "-o", str(tmp_path / "x"), "--prompts", "bcss"]
    )
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.strip() == f"error: {tmp_path / 'gone.pth'}: no such checkpoint"
