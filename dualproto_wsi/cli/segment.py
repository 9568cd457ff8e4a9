"""``dualproto-wsi segment``."""

from __future__ import annotations

from pathlib import Path

import click

from dualproto_wsi.cli import options


@click.command()
@options.slides_argument
@options.out_option
@options.model_option
@options.encoder_option
@options.prompts_option
@options.weights_option
@options.tokenizer_option
@options.mpp_option
@options.device_option
@options.precision_option
@options.batch_size_option
@options.compile_option
@options.overlap_option
@options.formats_option
@options.object_type_option
@options.frame_option
@options.reader_option
@options.workers_option
@click.option("--overlay/--no-overlay", default=True, show_default=True, help="Make overlay.png.")
@click.pass_context
def segment(
    ctx: click.Context,
    slides: tuple[Path, ...],
    out: Path,
    model: str,
    encoder: str,
    prompts: str,
    weights: Path | None,
    tokenizer: Path | None,
    mpp: float | None,
    device: str,
    precision: str,
    batch_size: int,
    compile_model: bool,
    overlap: float,
    formats: tuple[str, ...],
    object_type: str,
    frame: str,
    reader: str,
    workers: int,
    overlay: bool,
) -> None:
    """Map the tissue of SLIDES (files, or folders searched for slides).

    Each slide gets a folder in OUT with its regions for QuPath (.geojson), the label map (labels.tif), a picture
    (overlay.png) and a record (record.json); OUT/slides.csv has a row a slide with mm² and fraction of each class. A
    slide that cannot be done is told in its row, and the others go on.

    Exit code: 0 all done, 1 some slide failed, 2 wrong usage.
    """
    from dualproto_wsi.cli.progress import console_listener
    from dualproto_wsi.settings import (
        InferenceSettings,
        OutputSettings,
        ReadSettings,
        SegmentSettings,
        TilingSettings,
    )

    settings = SegmentSettings(
        read=ReadSettings(mpp, reader, workers),
        tiling=TilingSettings(overlap),
        inference=InferenceSettings(
            model,
            device,
            precision,
            batch_size,
            compile_model,
            encoder,
            prompts,
            str(weights or ""),
            str(tokenizer or ""),
        ),
        output=OutputSettings(formats, object_type, frame, overlay),
    )
    from dualproto_wsi.workflow.segment import segment_slides

    with console_listener() as listener:
        outcomes = list(segment_slides(slides, out, settings, listener))
    click.echo(out / "slides.csv")
    ctx.exit(1 if any(outcome.status == "failed" for outcome in outcomes) else 0)
