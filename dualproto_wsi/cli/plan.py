"""``dualproto-wsi plan``."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dualproto_wsi.cli import options
from dualproto_wsi.cli.segment_options import segment_options, segment_settings

if TYPE_CHECKING:
    from dualproto_wsi.workflow.batch.run_plan import RunPlan, SlidePlan

WIDTH = 110
NAME = 36
HEADS = ("slide", "µm/px", "from", "tissue mm²", "windows", "time", "memory", "disk")


@click.command()
@options.slides_argument
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Where the results would go: leave out what is done there, and look whether there is room.",
)
@segment_options
@options.json_option
@click.pass_context
def plan(ctx: click.Context, /, slides: tuple[Path, ...], out: Path | None, as_json: bool, **values: Any) -> None:
    """Say what `segment` would take with the same SLIDES and options: time, memory, disk, and what would go wrong.

    Every slide is opened and its tissue found; the model runs on small pieces of the first three slides with tissue to
    see how fast this machine is now. Nothing stays on the disk.

    Exit code: 0 all could be done, 1 some slide would fail, 2 wrong usage.
    """
    import json

    chosen = segment_settings(ctx, values)
    start = time.perf_counter()
    from dualproto_wsi.workflow.batch.plan import plan_slides

    loading_s = time.perf_counter() - start

    def tell(done: int, count: int) -> None:
        click.echo(f"\rlooked at {done} of {count} slide(s)", err=True, nl=done == count)

    heard = tell if click.get_text_stream("stderr").isatty() else None
    found = plan_slides(slides, chosen, out, heard, loading_s)
    click.echo(json.dumps(found.to_data(), indent=2, ensure_ascii=False) if as_json else as_table(found))
    ctx.exit(1 if found.failing else 0)


def as_table(plan: RunPlan) -> str:
    """Lay out a plan in lines of at most 110 characters: a row a slide, what to look at, and the totals."""
    rows = [HEADS, *map(_row, plan.slides)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if number not in (0, 2) else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    notes = [
        *(f"would fail: {slide.error}" for slide in plan.slides if slide.error),
        *(f"look at {slide.slide.name}: {text}" for slide in plan.slides for text in slide.warnings),
        *plan.warnings,
    ]
    wrapped = [line for note in notes for line in textwrap.wrap(note, WIDTH, subsequent_indent="    ")]
    return "\n".join([*lines, "", *wrapped, *([""] if wrapped else []), *_totals(plan)])


def _row(slide: SlidePlan) -> tuple[str, ...]:
    name = _shortened(slide.slide.name, NAME)
    mpp = f"{slide.mpp:.4g}" if slide.mpp else "—"
    source = _shortened(slide.mpp_source or "—", 20)
    if slide.error or slide.done:
        return name, mpp, source, "—", "—", "done" if slide.done else "fails", "—", "—"
    return (
        name,
        mpp,
        source,
        f"{slide.tissue_mm2:.2f}",
        f"{slide.windows:,}",
        duration(slide.seconds),
        size(slide.memory_bytes),
        size(slide.disk_bytes),
    )


def _totals(plan: RunPlan) -> list[str]:
    sums = plan.totals()
    notes = f", {plan.skipped} done already" if plan.skipped else ""
    notes += f", {plan.failing} would fail" if plan.failing else ""
    shared = f" in {plan.processes} processes" if plan.processes > 1 else ""
    measured = f"measured on {plan.measured_windows} windows" if plan.measured_windows else "nothing to measure on"
    return [
        f"{sums['slides']} slide(s){notes}: {sums['tissue_mm2']:.2f} mm² of tissue, {sums['windows']:,} windows",
        f"about {duration(sums['seconds'])}, with {duration(plan.start_s)} to start{shared}: {plan.engine}; {measured}",
        f"up to {size(sums['memory_bytes'])} of memory; {size(sums['disk_bytes'])} of results, and "
        f"{size(sums['temporary_bytes'])} of disk besides while it runs",
    ]


def _shortened(text: str, length: int) -> str:
    """Return a text with its middle left out where it is too long."""
    if len(text) <= length:
        return text
    end = (length - 1) // 2
    return f"{text[: length - 1 - end]}…{text[-end:]}"


def duration(seconds: float) -> str:
    """Return a time to two digits, in the unit that fits."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min" if seconds >= 595 else f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def size(count: int | None) -> str:
    """Return a number of bytes to two or three digits, in the unit that fits."""
    if count is None:
        return "—"
    if count < 999_500:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.0f} MB" if count < 999_500_000 else f"{count / 1e9:.1f} GB"
