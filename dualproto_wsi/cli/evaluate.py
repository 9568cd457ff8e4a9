"""``dualproto-wsi evaluate``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dualproto_wsi.cli import options
from dualproto_wsi.settings import BACKGROUNDS, GATES, LAYOUTS, PRESETS, EvaluateSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dualproto_wsi.workflow.evaluation.report import EvaluationReport
    from dualproto_wsi.workflow.evaluation.slides import SlidesReport

_FOR_BOTH = ("models", "target", "bootstrap", "seed", "json_path", "csv_path")


@click.command()
@click.argument("models", metavar="[MODEL]…", nargs=-1)
@click.argument("target", metavar="DATA|OUT", type=click.Path(path_type=Path))
@click.option(
    "--layout", type=click.Choice(LAYOUTS), default="brca-m2c", show_default=True, help="How DATA lies on disk."
)
@click.option("--split", default="val", show_default=True, metavar="NAME", help="Images to score.")
@click.option("--mpp", type=float, metavar="X", help="Microns per pixel of the images, in place of what DATA says.")
@click.option(
    "--gate",
    default=",".join(GATES),
    show_default=True,
    metavar="A,B,…",
    help="What is known of an image's classes: nothing; the true labels, as in the published evaluation; the model's "
    "own answer, its presence gate at strength 1.",
)
@click.option(
    "--background",
    metavar="A,B,…",
    help=f"What becomes of places that are no class in truth, of {', '.join(BACKGROUNDS)}: they do not count; they "
    "are a class, predicted where the tissue mask says glass; they are a class, and maps are decoded as the published "
    "code does.  [default: excluded; with masks excluded,glass]",
)
@click.option("--tta", is_flag=True, help="Also score the mean over the eight orientations of each image.")
@click.option(
    "--refine", default="none", show_default=True, metavar="A,B,…", help="Refinements to score: none, fast, crf."
)
@click.option(
    "--refine-preset", type=click.Choice(tuple(PRESETS)), default="default", show_default=True, help="Its parameters."
)
@click.option(
    "--threshold", type=float, default=0.5, show_default=True, help="Probability from which an image holds a class."
)
@click.option(
    "--boundary-um",
    type=float,
    default=4.0,
    show_default=True,
    help="Distance at which boundaries meet, µm; masks only.",
)
@click.option(
    "--small-um2", type=float, default=2000.0, show_default=True, help="Smaller regions are small, µm²; masks only."
)
@click.option(
    "--probe",
    is_flag=True,
    help="Also train a linear classifier on frozen features, on masks or points of --probe-split.",
)
@click.option("--probe-split", default="train", show_default=True, metavar="NAME", help="Images of the probe.")
@click.option(
    "--pictures",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE.png",
    help="Draw images, truth and the first row's prediction there, from the worst image to the best.",
)
@click.option("--picture-count", type=click.IntRange(1), default=6, show_default=True, help="How many.")
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    metavar="FILE|DIR",
    help="Annotations of the slides in OUT: a GeoJSON file, or the folder that `qupath export` wrote.",
)
@click.option("--reviewed", is_flag=True, help="With --truth: regions left as the model made them are true, too.")
@click.option(
    "--bootstrap",
    type=int,
    default=1000,
    show_default=True,
    metavar="N",
    help="Samples of patients (of slides with --truth) for 95 % intervals; 0: none.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything left to chance.")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write everything there too."
)
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the rows there too.")
@options.weights_option
@options.device_option
@click.pass_context
def evaluate(
    ctx: click.Context,
    /,
    models: tuple[str, ...],
    target: Path,
    truth: Path | None,
    reviewed: bool,
    json_path: Path | None,
    csv_path: Path | None,
    **given: Any,
) -> None:
    """Score a MODEL on labelled images, or maps of whole slides against annotations.

    `evaluate MODEL DATA`: MODEL is a built-in model's name or a bundle; several are scored side by side. DATA has masks
    or labelled points. Patients that a model was trained on are left out. Each row of the table is a way to make the
    map and to count, and names it. Points are nuclei, not masks: outlines are not measured.

    `evaluate OUT --truth FILE|DIR`: OUT is a folder that `segment` wrote. Cells are counted where there is an
    annotation; classes are matched by name, and what `Ignore*` outlines does not count.
    """
    named = [name for name in ctx.params if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    from dualproto_wsi.workflow.evaluation.report import write_report, write_table

    if truth is not None:
        wrong = [name for name in named if name not in (*_FOR_BOTH, "truth", "reviewed")]
        if models or wrong:
            what = f"MODEL {models[0]}" if models else f"--{wrong[0].replace('_', '-')}"
            raise click.UsageError(
                f"{what} is for labelled images, and --truth for slides: evaluate OUT --truth FILE|DIR"
            )
        slides = _evaluate_slides(target, truth, reviewed, given["bootstrap"], given["seed"])
        data = slides.to_json()
    else:
        if reviewed:
            raise click.UsageError("--reviewed is for slides: evaluate OUT --truth FILE|DIR")
        if not models:
            raise click.UsageError("name a MODEL and DATA, or for slides: evaluate OUT --truth FILE|DIR")
        data = _evaluate_images(models, target, given).to_json()
    if json_path:
        write_report(json_path, data)
    if csv_path:
        write_table(csv_path, data["rows"])


def _evaluate_images(models: tuple[str, ...], data: Path, given: dict[str, Any]) -> EvaluationReport:
    settings = EvaluateSettings(
        gates=_names(given["gate"]),
        backgrounds=_names(given["background"] or ""),
        refiners=_names(given["refine"]),
        probe_split=given["probe_split"] if given["probe"] else "",
        **{
            name: given[name]
            for name in (
                *("layout", "split", "mpp", "refine_preset", "tta", "threshold", "boundary_um", "small_um2"),
                *("bootstrap", "seed", "device"),
            )
        },
    )
    from dualproto_wsi.cli.progress import console_progress
    from dualproto_wsi.cli.tables import evaluation_table, presence_table
    from dualproto_wsi.workflow.evaluation.evaluate import evaluate_models
    from dualproto_wsi.workflow.evaluation.pictures import save_pictures

    with console_progress() as progress:
        task = progress.add_task("images", total=None)
        report = evaluate_models(
            models,
            data,
            settings,
            weights=given["weights"],
            keep_maps=given["pictures"] is not None,
            on_image=lambda: progress.advance(task),
        )
    patients = len(report.patients)
    click.echo(f"{settings.split}: {len(report.images)} images of {patients} patients, {report.places} {report.kind}")
    if report.left_out:
        click.echo(f"left out, because trained on: {', '.join(report.left_out)}")
    _tell_of_intervals(report.rows[0].intervals, "patients")
    if report.places:
        click.echo(evaluation_table(report))
    click.echo(f"\n{presence_table(report)}")
    if given["pictures"]:
        for path in save_pictures(report, given["pictures"], given["picture_count"]):
            click.echo(path)
    return report


def _evaluate_slides(out: Path, truth: Path, reviewed: bool, bootstrap: int, seed: int) -> SlidesReport:
    from dualproto_wsi.cli.progress import console_progress
    from dualproto_wsi.cli.tables import slides_table
    from dualproto_wsi.workflow.evaluation.slides import evaluate_slides

    with console_progress() as progress:
        task = progress.add_task("slides", total=None)
        report = evaluate_slides(
            out, truth, reviewed=reviewed, bootstrap=bootstrap, seed=seed, on_slide=lambda: progress.advance(task)
        )
    _tell_of_intervals(report.intervals, "slides")
    click.echo(slides_table(report))
    for slide in report.slides:
        for name, count in slide.unknown.items():
            click.echo(f"{slide.slide}: {count} outline(s) of {name} not counted: the model has no such class")
        if slide.of_the_model:
            click.echo(
                f"{slide.slide}: {slide.of_the_model} region(s) not counted: left as the model made them (--reviewed)"
            )
    for name in report.without:
        click.echo(f"{name}: of no slide of this run")
    return report


def _tell_of_intervals(intervals: Mapping[str, NDArray[np.float64]], what: str) -> None:
    from dualproto_wsi.stats.bootstrap import LEAST_PATIENTS

    if intervals and math.isnan(intervals["accuracy"][0]):
        click.echo(f"no intervals: they need {LEAST_PATIENTS} {what} or more")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
