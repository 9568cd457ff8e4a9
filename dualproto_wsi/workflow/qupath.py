"""Runs the Groovy scripts of this package in QuPath: a project of the slides, results in, corrections out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from dualproto_wsi.errors import DataError, MissingDependency, OutputError
from dualproto_wsi.files import absolute

IMPORT, EXPORT, CREATE = "import_dualproto.groovy", "export_corrections.groovy", "create_project.groovy"

ENVIRONMENT = ("DUALPROTO_QUPATH", "QUPATH_HOME")
"""Variables that may name QuPath's program or the folder it is in."""

_IN_A_FOLDER = (
    "bin/QuPath",
    "QuPath/bin/QuPath",
    "Contents/MacOS/QuPath*",
    "QuPath*.app/Contents/MacOS/QuPath*",
    "QuPath*(console).exe",
    "QuPath*/QuPath*(console).exe",
)
_PLACES = {
    "win32": ("{LOCALAPPDATA}/QuPath*", "{LOCALAPPDATA}/Programs/QuPath*", "{ProgramFiles}/QuPath*"),
    "darwin": ("/Applications/QuPath*.app", "{HOME}/Applications/QuPath*.app"),
    "linux": ("{HOME}/QuPath*", "{HOME}/*/QuPath*", "/opt/[Qq]u[Pp]ath*", "/usr/local/QuPath*"),
}
# A failed script is told by its table; what QuPath adds is for programmers.
_FRAME = re.compile(r"\s+(at |\.\.\. \d+ )")
_MESSAGE = re.compile(r"(Caused by: |[\w.$]+(Exception|Error)\b|\d\d:\d\d:\d\d\.\d{3} )")
_LAST_LINE = re.compile(r"DualProto (import|export|project): ")


def script_file(name: str) -> Path:
    """Return the place of a Groovy script (``IMPORT``, ``EXPORT`` or ``CREATE``), in a checkout or an installation.

    Raises
    ------
    MissingDependency
        If the installation lacks it.
    """
    checkout = Path(__file__).resolve().parents[2] / "groovy" / name
    if checkout.is_file():
        return checkout
    for file in metadata.files("dualproto-wsi") or []:
        if file.name == name:
            return Path(str(file.locate())).resolve()
    raise MissingDependency(f"{name}: not in this installation; install dualproto-wsi again")


def find_qupath(
    given: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    system: str = sys.platform,
) -> Path:
    """Find QuPath's program.

    The first of: ``given``; the variables of ``ENVIRONMENT``; the search path; the newest of the usual places.

    Parameters
    ----------
    given : Path or None
        The program, or the folder (on macOS the .app) it is in.
    environment : mapping
        Environment variables.
    system : str
        As ``sys.platform`` says it.

    Raises
    ------
    MissingDependency
        If there is none, or none where ``given`` or a variable says.
    """
    named = [("--qupath", str(given))] if given else [(v, environment[v]) for v in ENVIRONMENT if environment.get(v)]
    for origin, place in named:
        program = _program(Path(place))
        if program is None:
            raise MissingDependency(f"{origin} {place}: no QuPath there; name its program or the folder it is in")
        return program
    on_path = next((p for n in ("QuPath", "qupath") if (p := shutil.which(n, path=environment.get("PATH")))), None)
    if on_path:
        return Path(on_path)
    programs = list(_usual(environment, system))
    if not programs:
        raise MissingDependency(
            "no QuPath found; get it from https://qupath.github.io, or name it with --qupath or $DUALPROTO_QUPATH"
        )
    return max(programs, key=qupath_version)


def qupath_version(program: Path) -> tuple[int, ...]:
    """Return QuPath's version, as its files or its folder's name tell it; empty if they do not."""
    root = program.parent if program.suffix == ".exe" else program.parent.parent
    texts = [file.read_text(errors="replace") for file in sorted(root.glob("**/app/QuPath*.cfg"))]
    for pattern, text in [
        *((r"qupath-app-(\d+)\.(\d+)\.(\d+)", text) for text in texts),
        *((r"QuPath\D*(\d+)\.(\d+)\.(\d+)", str(place)) for place in (program, *program.parents)),
    ]:
        if found := re.search(pattern, text):
            return tuple(int(number) for number in found.groups())
    return ()


def _program(place: Path) -> Path | None:
    if place.is_file():
        return place
    found = [path for pattern in _IN_A_FOLDER for path in sorted(place.glob(pattern)) if path.is_file()]
    return max(found, key=qupath_version, default=None)


def _usual(environment: Mapping[str, str], system: str) -> Iterator[Path]:
    home = environment.get("HOME") or environment.get("USERPROFILE") or str(Path.home())
    for pattern in _PLACES.get(system, _PLACES["linux"]):
        try:
            folder = Path(pattern.format_map({**environment, "HOME": home}))
        except KeyError:
            continue
        for place in Path(folder.anchor).glob(str(folder.relative_to(folder.anchor))):
            program = _program(place)
            if program is not None:
                yield program


def import_results(
    program: Path,
    project: Path,
    results: Path,
    tell: Callable[[str], None],
    *,
    create: bool = False,
    slides: Sequence[Path] = (),
    switches: Iterable[str] = (),
) -> int:
    """Put the regions of a run into a QuPath project.

    Parameters
    ----------
    program : Path
        QuPath's program, see `find_qupath`.
    project : Path
        The .qpproj file; with ``create`` it is made first, of the slides of the run.
    results : Path
        The folder that ``segment`` wrote.
    tell : callable
        Called with every line of the report as it comes.
    create : bool
        Whether to make the project.
    slides : sequence of Path
        With ``create``: more slides, and folders where slides are that are no longer where they were analysed.
    switches : iterable of str
        ``dry-run`` and other switches of the script.

    Returns
    -------
    int
        Exit code: 0 everything was imported, 1 something was not; the report says what.

    Raises
    ------
    DataError
        If the results or the project are not there, or the name is not one of a project.
    OutputError
        If the project to make is there already.
    """
    _check_name(project)
    if create and project.exists():
        raise OutputError(f"{project}: is there already; name a new file, or leave out --create")
    if not create and not project.is_file():
        raise DataError(f"{project}: no such project; with --create it is made of the slides of the run")
    if not results.is_dir():
        raise DataError(f"{results}: no such folder; name a folder that `dualproto-wsi segment` wrote")
    made = 0
    if create:
        made = run_script(program, CREATE, [project, results, *slides], tell)
        if not project.is_file():
            return max(made, 1)
    return max(made, run_script(program, IMPORT, [project, results, *switches], tell))


def _check_name(project: Path) -> None:
    if project.suffix.lower() != ".qpproj":
        raise DataError(f"{project}: not a QuPath project; name a .qpproj file")


def export_corrections(
    program: Path,
    project: Path,
    out: Path,
    tell: Callable[[str], None],
    *,
    results: Path | None = None,
    switches: Iterable[str] = (),
) -> int:
    """Write the annotations of a QuPath project as GeoJSON, one file an image.

    Parameters
    ----------
    program : Path
        QuPath's program, see `find_qupath`.
    project : Path
        The .qpproj file.
    out : Path
        The folder to write to.
    tell : callable
        Called with every line of the report as it comes.
    results : Path or None
        The folder that ``segment`` wrote; with it, regions whose class was changed are known.
    switches : iterable of str
        ``changed-only``, ``unclassified``.

    Returns
    -------
    int
        Exit code: 0 everything was written, 1 something was not; the report says what.

    Raises
    ------
    DataError
        If the project is not there.
    """
    _check_name(project)
    if not project.is_file():
        raise DataError(f"{project}: no such project")
    return run_script(program, EXPORT, [project, out, *([results] if results else []), *switches], tell)


def run_script(program: Path, name: str, arguments: Sequence[Path | str], tell: Callable[[str], None]) -> int:
    """Run one of the scripts in QuPath without its windows.

    Parameters
    ----------
    program : Path
        QuPath's program.
    name : str
        ``IMPORT``, ``EXPORT`` or ``CREATE``.
    arguments : sequence of Path or str
        Arguments of the script.
    tell : callable
        Called with every line of the report as it comes; QuPath's own messages are left out unless the report is cut.

    Returns
    -------
    int
        0 or 1. QuPath also ends with 0 when it could not start the script; that is a 1 here, as there is no report.

    Raises
    ------
    MissingDependency
        If the program cannot be started.
    """
    words = [absolute(item) if isinstance(item, Path) else item for item in arguments]
    command = [str(program), "--log", "ERROR", "script", *(x for word in words for x in ("-a", word))]
    try:
        process = subprocess.Popen(
            [*command, str(script_file(name))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise MissingDependency(f"{program}: cannot be started ({error.strerror}); name QuPath's program") from error
    complete, aside = False, []
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if _MESSAGE.match(line):
                aside.append(line.rstrip())
            elif not _FRAME.match(line):
                complete = complete or bool(_LAST_LINE.match(line))
                tell(line.rstrip())
    if not complete:
        for line in aside:
            tell(line)
    return 0 if complete and process.returncode == 0 else 1


def by_hand(results: Path) -> str:
    """Return what to do in QuPath itself to import results, with the exact line for the script editor."""
    text = absolute(results).replace("\\", "/").replace("'", "\\'")
    return "\n".join(
        (
            "In QuPath itself: open the project, save your work, drag this file onto the window",
            f"  {script_file(IMPORT)}",
            "put this line in the place of the one that starts with the same words",
            f"  @Field String RESULTS = '{text}'",
            "and choose Run > Run.",
        )
    )
