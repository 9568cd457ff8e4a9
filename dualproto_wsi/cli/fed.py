"""``dualproto-wsi fed``: export, aggregate."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def fed() -> None:
    """Train one model at several sites: heads travel and are averaged, images stay where they are.

    A round: every site runs `train --continue START`, then `fed export`; one runs `fed aggregate` on what they sent,
    and what comes out is the START of the next round. Only the head travels (about 1 MB for the built-in model), with a
    card without patients and file names. Heads can still tell something about the images they were trained on: nothing
    here hides that (no differential privacy, no secure aggregation).
    """


@fed.command("export")
@click.argument("model", metavar="MODEL")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="File.safetensors to send.")
@click.option("--site", required=True, metavar="NAME", help="What this site is called.")
@click.option(
    "--positives",
    metavar="A=N,B=N,…",
    help="Positive training images of each class, if the model's card does not say.",
)
def export_command(model: str, out: Path, site: str, positives: str | None) -> None:
    """Write what a site sends of MODEL: the head and a card without patients; tells its size."""
    from dualproto_wsi.workflow.training.federate import export_site, parse_positives

    size = export_site(model, out, site, parse_positives(positives) if positives else None)
    click.echo(f"{out}: {size / 1e6:.2f} MB, all that travels")


@fed.command()
@click.argument("sites", metavar="SITE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The bundle to write, .safetensors.")
@click.option(
    "--start",
    default="",
    metavar="MODEL",
    help="The bundle that all sites started from, if its encoder is adapted; a built-in model is found by itself.",
)
def aggregate(sites: tuple[Path, ...], out: Path, start: str) -> None:
    """Average what the SITEs sent; prototypes of a class are weighted by its positive images, all else by their sum."""
    from dualproto_wsi.workflow.training.federate import aggregate_sites

    card = aggregate_sites(sites, out, start)
    for site in card.training["federated"]:
        counts = ", ".join(f"{name} {site['positives'][name]}" for name in card.classes.names)
        click.echo(f"{site['site']}: positive images {counts}")
    click.echo(out)
