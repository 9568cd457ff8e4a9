"""``dualproto-wsi cohort``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dualproto_wsi.errors import SettingsError
from dualproto_wsi.settings.cohort import CohortSettings

if TYPE_CHECKING:
    from dualproto_wsi.stats.cohort.model import Cohort

_DEFAULTS = CohortSettings()


@click.command()
@click.argument("outs", metavar="OUT…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    "report",
    metavar="REPORT",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for tables and report; made if missing.",
)
@click.option(
    "--metadata",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Table of patients, or of slides and their patients (with a column 'slide').",
)
@click.option(
    "--id",
    "id_column",
    metavar="COLUMN",
    default="",
    help="The patients' column in it.  [default: patient, patient_id, case …]",
)
@click.option(
    "--by",
    metavar="COLUMN",
    default="",
    help="Compare groups of patients: a column of --metadata, or else of slides.csv.",
)
@click.option("--time", metavar="COLUMN", default="", help="Survival: time to the event or to the last visit.")
@click.option("--event", metavar="COLUMN", default="", help="Survival: 1 where the event came, 0 where not.")
@click.option(
    "--role",
    "roles",
    metavar="ROLE=CLASS",
    multiple=True,
    help="Which class is tumor, stroma, lymphocyte or necrosis; repeat it.  [default: by its name]",
)
@click.option(
    "--margin-um",
    metavar="A,B,…",
    default=",".join(f"{limit:g}" for limit in _DEFAULTS.margins_um),
    show_default=True,
    help="Bands on both sides of the tumor front: their outer limits, µm.",
)
@click.option(
    "--front-mm2",
    type=float,
    default=_DEFAULTS.front_mm2,
    show_default=True,
    help="Smaller tumor regions, and gaps in them, make no front, mm².",
)
@click.option(
    "--mixing-um",
    type=float,
    default=_DEFAULTS.mixing_um,
    show_default=True,
    help="Side of the squares that mixing is measured on, µm.",
)
@click.option(
    "--block-mm",
    type=float,
    default=_DEFAULTS.block_mm,
    show_default=True,
    help="Side of the blocks that a slide's intervals are drawn from, mm.",
)
@click.option(
    "--bootstrap",
    type=int,
    default=_DEFAULTS.bootstrap,
    show_default=True,
    metavar="N",
    help="Draws for 95 % intervals; 0: none.",
)
@click.option("--seed", type=int, default=_DEFAULTS.seed, show_default=True, help="Of everything that is drawn.")
@click.option("--title", default="Cohort", show_default=True, help="Of the report.")
def cohort(
    outs: tuple[Path, ...],
    report: Path,
    metadata: Path | None,
    id_column: str,
    by: str,
    time: str,
    event: str,
    roles: tuple[str, ...],
    margin_um: str,
    front_mm2: float,
    mixing_um: float,
    block_mm: float,
    bootstrap: int,
    seed: int,
    title: str,
) -> None:
    """Measure the label maps in OUT…, folders that `segment` wrote, and report slides, patients and groups.

    REPORT gets cohort.csv (a row a slide, also a failed one), patients.csv, comparisons.csv, data_dictionary.csv (what
    each column means), cohort.parquet where pyarrow is installed, and report.html, one file that opens offline.

    A slide's patient comes from --metadata, from a column 'patient' or 'id' of the table that `segment` was given, or
    from a TCGA barcode; the notes say which.

    Exit code: 0 done, 2 something given cannot make right numbers.
    """
    settings = CohortSettings(
        margins_um=_numbers(margin_um),
        front_mm2=front_mm2,
        mixing_um=mixing_um,
        block_mm=block_mm,
        bootstrap=bootstrap,
        seed=seed,
        roles=tuple(map(_role, roles)),
    )
    from dualproto_wsi.cli.progress import console_progress
    from dualproto_wsi.workflow.cohort.build import Study, build_cohort
    from dualproto_wsi.workflow.cohort.write import write_cohort

    study = Study(metadata, id_column, by, time, event)
    with console_progress() as progress:
        task = progress.add_task("slides", total=None)
        found = build_cohort(outs, report, study, settings, title, on_slide=lambda _: progress.advance(task))
    written = write_cohort(found, report)
    _tell(found)
    for path in written:
        click.echo(path)
    if all(path.suffix != ".parquet" for path in written):
        click.echo("note: no cohort.parquet, since pyarrow is not installed; pip install 'dualproto-wsi[parquet]'")


def _tell(found: Cohort) -> None:
    slides, flags = found.slides, found.flags
    statuses = [slide.status for slide in slides]
    click.echo(
        f"{len(slides)} slide(s): {statuses.count('done')} done, {statuses.count('empty')} empty, "
        f"{statuses.count('failed')} failed; {len(found.patients)} patient(s), {len(flags)} flag(s)"
    )
    for note in found.notes:
        click.echo(f"note: {note}")
    for warning in dict.fromkeys(comparison.warning for comparison in found.comparisons if comparison.warning):
        measures = [comparison.measure for comparison in found.comparisons if comparison.warning == warning]
        click.echo(f"warning: {', '.join(measures)}: {warning}")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise SettingsError(f"--margin-um is {text!r}; give numbers with commas between, as 100,250,500") from error


def _role(text: str) -> tuple[str, str]:
    role, sign, name = text.partition("=")
    if not sign or not name.strip():
        raise SettingsError(f"--role is {text!r}; give it as ROLE=CLASS, such as tumor=Carcinoma")
    return role.strip().lower(), name.strip()
