"""``dualproto-wsi tiles``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dualproto_wsi.cli import options

if TYPE_CHECKING:
    from dualproto_wsi.workflow.tiles import CutOutcome


@click.command()
@options.slides_argument
@click.option(
    "--annotations",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR|FILE",
    help="GeoJSON of `qupath export` or QuPath, a file a slide, named after it.",
)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder of the tiles, to make.")
@click.option(
    "--tile-mpp", type=float, default=0.5, show_default=True, metavar="X", help="Microns per px of the tiles."
)
@click.option("--size", type=int, default=224, show_default=True, metavar="PX", help="Side of a tile.")
@click.option("--stride", type=int, default=0, metavar="PX", help="From one tile to the next.  [default: the size]")
@click.option(
    "--min-share",
    type=float,
    default=0.05,
    show_default=True,
    metavar="X",
    help="Share of a tile that a class fills at least where the tile holds it.",
)
@click.option("--classes", default="", metavar="A,B,…", help="Classes wanted.  [default: all that are annotated]")
@click.option("--reviewed", is_flag=True, help="Regions that the model made and nobody changed count, too.")
@options.mpp_option
@options.reader_option
@click.pass_context
def tiles(
    ctx: click.Context, /, slides: tuple[Path, ...], annotations: Path, out: Path, classes: str, **values: Any
) -> None:
    """Cut tiles with image-level labels from SLIDES that were annotated in QuPath, for `train OUT --layout table`.

    A tile holds a class (1) if outlines of it fill --min-share of the tile or more. It is without the class (0) where
    none touches it and less than that share lies outside all outlines. Else that is not known (?): nobody drew what is
    there. Where outlines overlap, the smaller one counts. Classes that are not wanted are background; Ignore* is not
    labelled.

    SLIDES are files, folders, or tables (CSV: path, and as wanted patient, group, mpp). OUT gets labels.csv, tiles/ and
    masks/ (1, 2 … the classes, 255 background, 0 not labelled).

    Exit code: 0 all done, 1 some slide failed, 2 wrong usage.
    """
    from dualproto_wsi.workflow.tiles import CutSettings, cut_tiles

    wanted = tuple(name.strip() for name in classes.split(",") if name.strip())
    outcomes, unmatched = cut_tiles(
        slides, annotations, out, CutSettings(classes=wanted, **values), lambda outcome: click.echo(describe(outcome))
    )
    for file in unmatched:
        click.echo(f"{file}: annotations of none of these slides", err=True)
    failed = sum(bool(outcome.error) for outcome in outcomes)
    told = f", {failed} failed" if failed else ""
    click.echo(f"{sum(outcome.tiles for outcome in outcomes)} tiles of {len(outcomes)} slide(s){told}: {out}")
    ctx.exit(1 if failed else 0)


def describe(outcome: CutOutcome) -> str:
    """Return one line on what became of a slide."""
    if outcome.error:
        return f"failed: {outcome.error}"
    names = sorted({*outcome.present, *outcome.absent})
    counts = ", ".join(f"{name} in {outcome.present[name]}, not in {outcome.absent[name]}" for name in names)
    other = ", ".join(f"{name} ({count})" for name, count in sorted(outcome.other.items()))
    return (
        f"{outcome.slide.name}: {outcome.tiles} tiles{': ' if counts else ''}{counts}"
        f"{'; taken for background: ' if other else ''}{other}"
    )
