from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import VERBS, main

HEAVY = ("torch", "numpy", "tiatoolbox", "openslide", "cv2", "shapely", "numba", "timm", "rich")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(verb):
    result = CliRunner().invoke(main, [verb, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: main {verb} ")
    for parameter in main.get_command(None, verb).params:
        if parameter.param_type_name == "option":
            assert parameter.help, f"{verb} {parameter.opts}: no help text"


def test_help_lists_the_verbs_in_order():
    output = CliRunner().invoke(main, ["--help"]).output
    places = [output.index(f"\n  {verb} ") for verb in VERBS]
    assert places == sorted(places)


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from dualproto_wsi.cli.main import VERBS, main\n"
        "for verb in VERBS:\n"
        "    try: main([verb, '--help'])\n"
        "    except SystemExit as stop: assert stop.code == 0\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'imported: {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_module_and_version():
    done = subprocess.run(
        [sys.executable, "-m", "dualproto_wsi", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("dualproto-wsi, version ")


def test_unknown_verb_is_wrong_usage():
    result = CliRunner().invoke(main, ["segmnt"])
    assert result.exit_code == 2
    assert "No such command 'segmnt'" in result.output
