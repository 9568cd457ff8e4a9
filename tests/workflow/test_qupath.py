"""Finding QuPath, running its scripts in it, streaming their reports, exit codes.

A small program of a few lines stands in the place of QuPath's launcher: it records its arguments and prints what a
script would. The scripts themselves run in tests/groovy, and in QuPath itself in test_qupath_round_trip.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from dualproto_wsi.errors import DataError, MissingDependency, OutputError
from dualproto_wsi.workflow import qupath

DONE = "image  status\nDualProto import: 1 imported"


@pytest.fixture
def launcher(tmp_path):
    """Make a program that behaves as QuPath's launcher: records its arguments, prints, makes the project, ends."""

    def make(output: str = DONE, code: int = 0, makes_project: bool = True) -> Path:
        program = tmp_path / "QuPath-0.5.1" / "bin" / "QuPath"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(
            textwrap.dedent(f"""\
                #!{sys.executable}
                import json, pathlib, sys
                with open({str(tmp_path / "calls.jsonl")!r}, "a") as file:
                    file.write(json.dumps(sys.argv[1:]) + "\\n")
                if sys.argv[-1].endswith("create_project.groovy"):
                    if {makes_project}:
                        pathlib.Path(sys.argv[5]).write_text("{{}}")
                    print("DualProto project: 1 added")
                    sys.exit(0)
                print({output!r}, flush=True)
                sys.exit({code})
                """)
        )
        program.chmod(0o755)
        return program

    return make


@pytest.fixture
def project(tmp_path):
    path = tmp_path / "my project" / "p.qpproj"
    path.parent.mkdir()
    path.write_text("{}")
    return path


def calls(tmp_path: Path) -> list[list[str]]:
    return [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]


def install(root: Path, relative: str, version: str | None = None) -> Path:
    program = root / relative
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text("")
    program.chmod(0o755)
    if version:
        folder = program.parent.parent / ("app" if "MacOS" in relative else "lib/app")
        folder = program.parent / "app" if program.suffix == ".exe" else folder
        folder.mkdir(parents=True)
        (folder / "QuPath.cfg").write_text(f"[Application]\napp.classpath=$APPDIR/qupath-app-{version}.jar\n")
    return program


@pytest.mark.parametrize(
    ("system", "old", "new"),
    [
        ("linux", "QuPath-0.4.4/bin/QuPath", "QuPath/bin/QuPath"),
        ("linux", "QuPath-v0.5.1-Linux/QuPath/bin/QuPath", "software/QuPath-v0.6.0-Linux/QuPath/bin/QuPath"),
        ("darwin", "Applications/QuPath-0.5.1.app/Contents/MacOS/QuPath-0.5.1",
         "Applications/QuPath-0.6.0-arm64.app/Contents/MacOS/QuPath-0.6.0-arm64"),
        ("win32", "QuPath-0.5.1/QuPath-0.5.1 (console).exe", "Programs/QuPath-0.10.0/QuPath-0.10.0 (console).exe"),
    ],
)  # fmt: skip
def test_the_newest_of_the_usual_places_is_found(system, old, new, tmp_path):
    install(tmp_path, old, "0.5.1")
    install(tmp_path, str(Path(new).with_name("QuPath.exe")) if system == "win32" else "other/bin/tool")
    wanted = install(tmp_path, new, "0.10.0")
    environment = {"HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path), "PATH": ""}
    assert qupath.find_qupath(None, environment, system) == wanted
    assert qupath.qupath_version(wanted) == (0, 10, 0)


def test_argument_before_variable_before_search_path_before_usual_places(tmp_path):
    usual = install(tmp_path / "home", "QuPath-0.7.0/bin/QuPath")
    on_path = install(tmp_path, "path/QuPath")
    by_variable = install(tmp_path, "variable/bin/QuPath")
    given = install(tmp_path, "given/QuPath-0.4.4/bin/QuPath")
    environment = {"HOME": str(tmp_path / "home"), "PATH": ""}
    assert qupath.find_qupath(None, environment, "linux") == usual
    environment["PATH"] = str(on_path.parent)
    assert qupath.find_qupath(None, environment, "linux") == on_path
    environment["QUPATH_HOME"] = str(usual)
    environment["DUALPROTO_QUPATH"] = str(tmp_path / "variable")
    assert qupath.find_qupath(None, environment, "linux") == by_variable
    assert qupath.find_qupath(given, environment, "linux") == given
    assert qupath.find_qupath(given.parents[1], environment, "linux") == given


def test_a_place_without_qupath_is_an_error_not_a_reason_to_look_elsewhere(tmp_path):
    install(tmp_path, "QuPath-0.7.0/bin/QuPath")
    environment = {"HOME": str(tmp_path), "PATH": "", "DUALPROTO_QUPATH": str(tmp_path / "absent")}
    with pytest.raises(MissingDependency, match=r"DUALPROTO_QUPATH .*absent: no QuPath there; name its program"):
        qupath.find_qupath(None, environment, "linux")
    with pytest.raises(MissingDependency, match=r"--qupath .*nowhere: no QuPath there"):
        qupath.find_qupath(tmp_path / "nowhere", environment, "linux")


def test_no_qupath_says_where_to_get_it(tmp_path):
    # A home without QuPath; /opt is this machine's and may hold one
    with pytest.raises(MissingDependency, match=r"no QuPath found; get it from https://qupath.github.io, or name it"):
        qupath.find_qupath(None, {"HOME": str(tmp_path), "PATH": "", "LOCALAPPDATA": str(tmp_path)}, "win32")


@pytest.mark.parametrize(
    ("place", "version"),
    [
        ("/opt/QuPath-0.5.1/bin/QuPath", (0, 5, 1)),
        ("/home/me/QuPath-v0.6.0-Linux/QuPath/bin/QuPath", (0, 6, 0)),
        ("/opt/qupath/bin/QuPath", ()),
    ],
)
def test_version_of_a_folder_s_name(place, version):
    assert qupath.qupath_version(Path(place)) == version


def test_import_runs_the_script_and_streams_its_report(launcher, project, tmp_path):
    lines = []
    results = tmp_path / "my results"
    results.mkdir()
    code = qupath.import_results(launcher(), project, results, lines.append, switches=["dry-run", "no-lock"])
    assert (code, lines) == (0, DONE.splitlines())
    (words,) = calls(tmp_path)
    assert words[:3] == ["--log", "ERROR", "script"]
    assert words[3:-1] == ["-a", str(project), "-a", str(results), "-a", "dry-run", "-a", "no-lock"]
    assert Path(words[-1]).name == "import_dualproto.groovy"
    assert Path(words[-1]).is_file()


def test_lines_come_while_the_script_runs(tmp_path):
    """The second line is printed only after the first was seen."""
    seen, program = tmp_path / "seen", tmp_path / "QuPath"
    program.write_text(
        f"#!/bin/sh\necho first\nfor i in 1 2 3 4 5 6 7 8 9; do [ -e '{seen}' ] || sleep 1; done\n"
        f"[ -e '{seen}' ] && echo 'DualProto import: 1 imported'\n"
    )
    program.chmod(0o755)
    assert qupath.run_script(program, qupath.IMPORT, [], lambda line: seen.touch()) == 0


TRACE = textwrap.dedent("""\
    12:00:00.000 [main] [ERROR] q.ScriptCommand - 1 of 2 images failed
    javax.script.ScriptException: 1 of 2 images failed
    \tat org.codehaus.groovy.Foo.bar(Foo.java:1)
    Caused by: java.lang.RuntimeException: 1 of 2 images failed
    \t... 12 more""")


@pytest.mark.parametrize(
    ("output", "code", "expected", "told"),
    [
        (DONE, 0, 0, DONE),
        (f"{DONE}\n{TRACE}", 1, 1, DONE),
        (DONE, 134, 1, DONE),
        # QuPath could not start the script, and ends with 0
        ("An error has occurred, please type -h", 0, 1, "An error has occurred, please type -h"),
        (f"image A\n{TRACE}", 1, 1, "image A\n" + "\n".join(TRACE.splitlines()[i] for i in (0, 1, 3))),
    ],
)  # fmt: skip
def test_exit_code_and_what_is_told(output, code, expected, told, launcher, project, tmp_path):
    lines = []
    assert qupath.import_results(launcher(output, code), project, tmp_path, lines.append) == expected
    assert "\n".join(lines) == told


def test_create_makes_the_project_first(launcher, tmp_path):
    lines = []
    project = tmp_path / "new.qpproj"
    moved = tmp_path / "moved slides"
    code = qupath.import_results(launcher(), project, tmp_path, lines.append, create=True, slides=[moved])
    assert code == 0
    assert lines == ["DualProto project: 1 added", *DONE.splitlines()]
    first, second = calls(tmp_path)
    assert first[3:-1] == ["-a", str(project), "-a", str(tmp_path), "-a", str(moved)]
    assert [Path(words[-1]).name for words in (first, second)] == ["create_project.groovy", "import_dualproto.groovy"]


def test_nothing_is_imported_where_no_project_could_be_made(launcher, tmp_path):
    program = launcher(makes_project=False)
    code = qupath.import_results(program, tmp_path / "new.qpproj", tmp_path, lambda line: None, create=True)
    assert code == 1
    assert len(calls(tmp_path)) == 1


def test_what_cannot_work_is_refused_before_qupath_starts(launcher, project, tmp_path):
    program = launcher()
    for name, create, error, words in (
        (tmp_path / "absent.qpproj", False, DataError, r"absent.qpproj: no such project; with --create it is made"),
        (tmp_path / "p.txt", False, DataError, r"p.txt: not a QuPath project; name a .qpproj file"),
        (project, True, OutputError, r"p.qpproj: is there already; name a new file, or leave out --create"),
    ):
        with pytest.raises(error, match=words):
            qupath.import_results(program, name, tmp_path, lambda line: None, create=create)
    with pytest.raises(DataError, match=r"nothing: no such folder; name a folder that `dualproto-wsi segment` wrote"):
        qupath.import_results(program, project, tmp_path / "nothing", lambda line: None)
    with pytest.raises(MissingDependency, match=r"p.qpproj: cannot be started \(Permission denied\); name QuPath's"):
        qupath.import_results(project, project, tmp_path, lambda line: None)
    assert not (tmp_path / "calls.jsonl").exists()


def test_export_runs_the_script(launcher, project, tmp_path):
    lines = []
    program = launcher("DualProto export: 1 written")
    code = qupath.export_corrections(
        program, project, tmp_path / "o", lines.append, results=tmp_path, switches=["changed-only"]
    )
    assert (code, lines) == (0, ["DualProto export: 1 written"])
    assert calls(tmp_path)[0][3:-1] == [
        "-a", str(project), "-a", str(tmp_path / "o"), "-a", str(tmp_path), "-a", "changed-only",
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"absent.qpproj: no such project$"):
        qupath.export_corrections(program, tmp_path / "absent.qpproj", tmp_path, lines.append)


def test_by_hand_gives_the_line_for_the_script_editor(tmp_path):
    text = qupath.by_hand(tmp_path / "it's mine")
    line = next(line.strip() for line in text.splitlines() if "@Field" in line)
    assert line == f"@Field String RESULTS = '{tmp_path}/it\\'s mine'"
    script = qupath.script_file(qupath.IMPORT)
    assert str(script) in text
    assert script.read_text(encoding="utf-8").count(line.partition("= ")[0] + "= ") == 1


@pytest.mark.slow
def test_the_scripts_are_in_the_wheel(tmp_path):
    root = Path(__file__).resolve().parents[2]
    source = tmp_path / "source"  # a build leaves folders behind
    for name in ("dualproto_wsi", "groovy"):
        shutil.copytree(root / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(source)]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = {Path(name).name for name in wheel.namelist() if name.endswith(".groovy")}
    assert names == {qupath.IMPORT, qupath.EXPORT, qupath.CREATE}
