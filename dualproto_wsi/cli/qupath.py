"""``dualproto-wsi qupath``: import, export."""

from __future__ import annotations

from pathlib import Path

import click

_project = click.option(
    "--project", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The project, a .qpproj file."
)
_program = click.option(
    "--qupath",
    "program",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="QuPath's program or the folder it is in; otherwise $DUALPROTO_QUPATH, the search path, the usual places.",
)


@click.group()
def qupath() -> None:
    """Put results into a QuPath project, or get corrected annotations out of it; QuPath runs without its windows."""


@qupath.command("import")
@_project
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--create", is_flag=True, help="Make the project first, of the slides of the run.")
@click.option(
    "--slides",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="With --create: a folder where the slides are now, or one more slide. Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@click.option("--no-replace", is_flag=True, help="Keep regions of earlier imports.")
@click.option("--replace-edited", is_flag=True, help="Replace also regions that were changed by hand.")
@click.option("--no-lock", is_flag=True, help="Leave the regions unlocked.")
@click.option("--resolve-hierarchy", is_flag=True, help="Nest objects by position; slow from some thousand regions on.")
@_program
@click.pass_context
def import_command(
    ctx: click.Context,
    /,
    project: Path,
    results: Path,
    create: bool,
    slides: tuple[Path, ...],
    program: Path | None,
    **switches: bool,
) -> None:
    """Put the regions in RESULTS, a folder that segment wrote, into a project.

    Close the project in QuPath first. Regions of earlier imports are replaced; what you drew or changed stays. A table
    says what happened to each image.

    Exit code: 0 everything was imported, 1 something was not, 2 nothing could be done.
    """
    from dualproto_wsi.errors import MissingDependency
    from dualproto_wsi.workflow.qupath import by_hand, find_qupath, import_results

    if slides and not create:
        raise click.UsageError("--slides is for --create only")
    if create and switches["dry_run"]:
        raise click.UsageError("--create makes a project, and --dry-run changes nothing: leave one out")
    try:
        found = find_qupath(program)
    except MissingDependency:
        click.echo(by_hand(results))
        raise
    click.echo(f"QuPath: {found}")
    words = [name.replace("_", "-") for name, on in switches.items() if on]
    ctx.exit(import_results(found, project, results, click.echo, create=create, slides=slides, switches=words))


@qupath.command("export")
@_project
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The folder to write to.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder that segment wrote; with it, regions whose class was changed are marked as changed too.",
)
@click.option("--changed-only", is_flag=True, help="Leave out regions as the model made them.")
@click.option("--unclassified", is_flag=True, help="Also write annotations without a class.")
@_program
@click.pass_context
def export_command(
    ctx: click.Context, /, project: Path, out: Path, results: Path | None, program: Path | None, **switches: bool
) -> None:
    """Write the annotations of a project as GeoJSON, one file an image, for training and evaluation.

    Each says whether it was drawn, changed or left as the model made it; each file says the size of its image, of its
    pixels, and the offset to the whole slide. The project is not changed.

    Exit code: 0 everything was written, 1 something was not, 2 nothing could be done.
    """
    from dualproto_wsi.workflow.qupath import export_corrections, find_qupath

    found = find_qupath(program)
    click.echo(f"QuPath: {found}")
    words = [name.replace("_", "-") for name, on in switches.items() if on]
    ctx.exit(export_corrections(found, project, out, click.echo, results=results, switches=words))
