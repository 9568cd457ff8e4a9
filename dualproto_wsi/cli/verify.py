"""``dualproto-wsi verify``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from dualproto_wsi.cli import options
from dualproto_wsi.errors import OutputError


@click.command()
@click.argument("target", metavar="OUT|FILE", type=click.Path(path_type=Path))
@options.json_option
@click.pass_context
def verify(ctx: click.Context, target: Path, as_json: bool) -> None:
    """Prove that the results in OUT agree with each other, or tell what QuPath makes of a GeoJSON FILE.

    OUT, a folder that `segment` wrote: reads every slide's polygons again, fills them, and compares cell by cell with
    labels.tif; checks that every geometry is valid, that no two regions overlap, that each region's area and score are
    right, that record.json and slides.csv tell the same, and that QuPath 0.4.4 to 0.7.0 read all of it.

    FILE, anyone's .geojson or .json, also .gz or .zip: tells for QuPath 0.4.4, 0.5.1, 0.6.0 and 0.7.0 whether it reads
    the file and as what, or which feature it refuses the file for, without QuPath.

    Exit code: 0 all well, 1 something disagrees, is refused or is lost (it is listed), 2 there is nothing to check.
    """
    import json

    found, data = [], []
    for agreed, title, lines, plain in _check_run(target) if target.is_dir() else _check_file(target):
        found.append(agreed)
        data.append(plain)
        if not as_json:
            _tell("\n      ".join((f"{'ok  ' if agreed else 'FAIL'}  {title}", *lines)))
    if as_json:
        _tell(json.dumps(data, indent=2, ensure_ascii=False))
    elif target.is_dir():
        _tell(f"{len(found)} slide(s) checked, {found.count(False)} with problems")
    ctx.exit(0 if all(found) else 1)


def _tell(text: str) -> None:
    try:
        click.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        import os
        import sys

        with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - else Python tries again at its end, and fails loudly
            os.dup2(nothing.fileno(), sys.stdout.fileno())
        raise OutputError(f"the verdict cannot be written ({error.strerror}); make room, or write elsewhere") from error


_Check = tuple[bool, str, tuple[str, ...], dict[str, Any]]


def _check_run(out: Path) -> Iterator[_Check]:
    from dualproto_wsi.workflow.checks.verify import verify_run

    for verdict in verify_run(out):
        title = f"{verdict.slide}  {verdict.checked}"
        yield not verdict.problems, title, verdict.problems, asdict(verdict)


def _check_file(path: Path) -> Iterator[_Check]:
    from dualproto_wsi.workflow.checks.verify_file import verify_file

    for verdict in verify_file(path):
        yield verdict.agreed, verdict.name, tuple(verdict.lines()), asdict(verdict)
