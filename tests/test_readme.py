from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from dualproto_wsi.cli.main import VERBS, main

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
LINES = [
    command.strip()
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    for command in re.sub(r"\s{2,}#.*", "", line).split("&&")
]
OURS = [line for line in LINES if line.startswith("dualproto-wsi ")]


@pytest.mark.parametrize("line", OURS)
def test_every_command_line_of_the_readme_is_one_that_the_program_takes(line):
    words = shlex.split(line)[1:]
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        name = words.pop(0)
        command = command.get_command(context, name)
        assert command is not None, f"{line}: no verb {name}"
        context = click.Context(command, parent=context)
    command.make_context(command.name, words, parent=context)


def test_there_are_command_lines_and_every_verb_is_in_the_table():
    assert len(OURS) >= 5
    for verb in VERBS:
        assert f"\n| `{verb}` | " in README, verb


def test_links_inside_the_readme_lead_somewhere():
    headings = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in README.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\((#?[^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert (Path(__file__).resolve().parents[1] / target).exists(), target
