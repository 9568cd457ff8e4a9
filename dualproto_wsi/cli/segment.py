"""``dualproto-wsi segment``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dualproto_wsi import settings
from dualproto_wsi.cli import options
from dualproto_wsi.cli.options import CommaList, setting


@click.command()
@options.slides_argument
@options.out_option
@setting(
    "--model",
    "inference.model",
    metavar="NAME|FILE",
    help="Built-in model by name, a bundle file, or zero-shot (with --encoder and --prompts).",
)
@setting(
    "--encoder",
    "inference.encoder",
    metavar="NAME",
    help="Encoder of zero-shot: conch, or open_clip:MODEL[:PRETRAINED|FILE].",
)
@setting(
    "--prompts",
    "inference.prompts",
    metavar="NAME|FILE",
    help="Classes and descriptions of zero-shot: bcss, or a TOML file.",
)
@setting("--weights", "inference.weights", default=None, **options.WEIGHTS)
@setting("--tokenizer", "inference.tokenizer", default=None, **options.TOKENIZER)
@setting(
    "--mpp",
    "read.mpp",
    type=float,
    metavar="X",
    help="Microns per full-resolution pixel, in place of what the file says.",
)
@setting("--reader", "read.reader", **options.READER)
@setting("--workers", "read.workers", metavar="N", help="Threads that read ahead.")
@setting("--device", "inference.device", **options.DEVICE)
@setting(
    "--precision",
    "inference.precision",
    type=click.Choice(settings.PRECISIONS),
    help="auto: bf16 on a GPU that has it, fp16 on one that has not, fp32 on a CPU.",
)
@setting(
    "--batch-size",
    "inference.batch_size",
    metavar="N",
    help="Windows a forward pass.  [default: 2 a CPU core, 64 on a GPU]",
)
@setting(
    "--compile",
    "inference.compile",
    is_flag=True,
    help="Let torch compile the model: a minute once, then faster. Needs a C++ compiler.",
)
@setting(
    "--overlap",
    "tiling.overlap",
    metavar="F",
    help="Share of a window's side that it has in common with its neighbour.",
)
@setting(
    "--refine",
    "refine.method",
    type=click.Choice(settings.REFINERS),
    help="Move borders to the edges in the picture: crf (pydensecrf) or fast (nearly the same, on CPU or GPU).",
)
@setting(
    "--refine-preset",
    "refine.preset",
    type=click.Choice(tuple(settings.PRESETS)),
    help="How strongly: default (gentle), or the published method's, which erases small regions.",
)
@setting(
    "--unsure-below",
    "labels.unsure_below",
    metavar="P",
    help="Call a place 'Unsure' where the best class has a lower probability.  [default: off]",
)
@setting(
    "--min-area",
    "labels.min_area_um2",
    metavar="UM2",
    help="Let regions smaller than this (µm²) join a neighbour.  [default: none]",
)
@setting(
    "--fill-holes",
    "labels.fill_holes_um2",
    metavar="UM2",
    help="Fill holes without a class that are smaller than this (µm²).  [default: none]",
)
@setting(
    "--simplify",
    "output.simplify_um",
    metavar="UM",
    help="Smooth outlines by up to this (µm): fewer vertices, neighbours still meet.  [default: exact]",
)
@setting(
    "--formats",
    "output.formats",
    type=CommaList(settings.FORMATS),
    metavar="LIST",
    help="Polygon files to write: geojson, geojson.gz, or both with a comma.",
)
@setting(
    "--object-type",
    "output.object_type",
    type=click.Choice(settings.OBJECT_TYPES),
    help="What QuPath gets: an annotation or a detection a region, or a tile a grid square, with the classes' shares.",
)
@setting("--square", "output.square_um", metavar="UM", help="Side of the grid squares of --object-type tile (µm).")
@setting("--merge-per-class", "output.merge_per_class", is_flag=True, help="Write one feature a class.")
@setting(
    "--outline",
    "output.outline",
    is_flag=True,
    help="Add an annotation around all that was analysed, with the slide's areas.",
)
@setting(
    "--frame",
    "output.frame",
    type=click.Choice(settings.FRAMES),
    help="Origin of the polygons: where QuPath crops the slide, or the whole file.",
)
@setting(
    "--confidence/--no-confidence", "output.confidence", help="Make confidence.tif, percent a cell.", show_default=True
)
@setting("--overlay/--no-overlay", "output.overlay", help="Make overlay.png.", show_default=True)
@click.pass_context
def segment(ctx: click.Context, /, slides: tuple[Path, ...], out: Path, **values: Any) -> None:
    """Map the tissue of SLIDES (files, or folders searched for slides).

    Each slide gets a folder in OUT with its regions for QuPath (.geojson), the label map (labels.tif), a picture
    (overlay.png) and a record (record.json); OUT/slides.csv has a row a slide with mm² and fraction of each class. A
    slide that cannot be done is told in its row, and the others go on.

    Exit code: 0 all done, 1 some slide failed, 2 wrong usage.
    """
    chosen = options.segment_settings(values)
    from dualproto_wsi.cli.progress import console_listener
    from dualproto_wsi.workflow.segment import segment_slides

    with console_listener() as listener:
        outcomes = list(segment_slides(slides, out, chosen, listener))
    click.echo(out / "slides.csv")
    ctx.exit(1 if any(outcome.status == "failed" for outcome in outcomes) else 0)
