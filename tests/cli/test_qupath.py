"""``dualproto-wsi qupath``; the launcher is a small program in QuPath's place (see tests/workflow/test_qupath.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import main


@pytest.fixture
def project(tmp_path):
    path = tmp_path / "p.qpproj"
    path.write_text("{}")
    return path


@pytest.fixture
def launcher(tmp_path):
    program = tmp_path / "QuPath"
    program.write_text('#!/bin/sh\nfor word; do echo "word $word"; done\necho "DualProto import: 1 imported"\n')
    program.chmod(0o755)
    return program


def run(*words: object):
    return CliRunner().invoke(main, ["qupath", *(str(word) for word in words)])


def words_of(output: str) -> list[str]:
    return [line.removeprefix("word ") for line in output.splitlines() if line.startswith("word ")]


def test_help_names_the_verbs():
    output = run("--help").output
    assert all(f"\n  {verb} " in output for verb in ("import", "export"))


def test_import_passes_its_options_on(launcher, project, tmp_path):
    result = run(
        "import", "--project", project, tmp_path, "--qupath", launcher, "--dry-run", "--no-replace", "--replace-edited",
        "--no-lock", "--resolve-hierarchy",
    )  # fmt: skip
    assert result.exit_code == 0
    assert result.output.startswith(f"QuPath: {launcher}\n")
    switches = ["dry-run", "no-replace", "replace-edited", "no-lock", "resolve-hierarchy"]
    passed = words_of(result.output)
    assert [word for word in passed if word in switches] == switches
    assert passed.count("-a") == 2 + len(switches)


def test_export_passes_its_options_on(launcher, project, tmp_path):
    launcher.write_text(launcher.read_text().replace("import: 1 imported", "export: 1 written"))
    result = run(
        "export", "--project", project, "-o", tmp_path / "o", "--results", tmp_path, "--qupath", launcher,
        "--changed-only", "--unclassified",
    )  # fmt: skip
    assert result.exit_code == 0
    assert words_of(result.output)[3:-1:2] == ["-a"] * 5
    given = words_of(result.output)[4:-1:2]
    assert given == [str(project), str(tmp_path / "o"), str(tmp_path), "changed-only", "unclassified"]


def test_a_failure_of_the_script_is_the_exit_code(launcher, project, tmp_path):
    launcher.write_text(launcher.read_text() + "exit 1\n")
    assert run("import", "--project", project, tmp_path, "--qupath", launcher).exit_code == 1


def test_without_qupath_it_says_what_to_do_by_hand(project, tmp_path):
    result = run("import", "--project", project, tmp_path / "results", "--qupath", tmp_path / "absent")
    assert result.exit_code == 2
    assert f"  @Field String RESULTS = '{tmp_path / 'results'}'" in result.stdout.splitlines()
    assert Path(result.stdout.splitlines()[1].strip()).is_file()
    assert result.stderr.strip().endswith("absent: no QuPath there; name its program or the folder it is in")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--slides", "x"], "--slides is for --create only"),
        (["--create", "--dry-run"], "--create makes a project, and --dry-run changes nothing"),
    ],
)
def test_options_that_do_not_go_together(options, words, project, tmp_path):
    result = run("import", "--project", project, tmp_path, *options)
    assert result.exit_code == 2
    assert words in result.stderr
