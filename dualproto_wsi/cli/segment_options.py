"""Options that are fields of the segment settings, one list for all verbs that take them, and their settings file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from dualproto_wsi import settings
from dualproto_wsi.cli import options

F = TypeVar("F", bound=Callable[..., Any])
Origins = dict[tuple[str, str], str]
"""Where a value came from, by (section, field)."""

DEFAULTS = settings.to_data(settings.SegmentSettings())


class CommaList(click.ParamType[tuple[str, ...]]):
    """A list of choices separated by commas."""

    name = "list"

    def __init__(self, choices: tuple[str, ...]) -> None:
        self._choices = choices

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Split and check a value."""
        if isinstance(value, tuple | list):
            return tuple(value)
        parts = tuple(part.strip() for part in str(value).split(",") if part.strip())
        wrong = [part for part in parts if part not in self._choices]
        if wrong or not parts:
            named = f"{wrong[0]!r} is not known" if wrong else "the list is empty"
            self.fail(f"{named}; choose from {', '.join(self._choices)}", param, ctx)
        return parts


def setting(flag: str, field: str, **attributes: Any) -> Callable[[F], F]:
    """Return an option that is a field of the segment settings, with the field's default.

    Parameters
    ----------
    flag : str
        ``--name``, or ``--name/--no-name``.
    field : str
        ``section.field``; the verb gets the value as ``section__field``, for :func:`segment_settings`.
    **attributes
        For ``click.option``.
    """
    section, name = field.split(".")
    default = DEFAULTS[section][name]
    shown = default not in ("", None, 0, False)
    attributes = {"default": default, "show_default": shown, **attributes}
    return click.option(flag, f"{section}__{name}", **attributes)


def segment_settings(ctx: click.Context, values: Mapping[str, Any]) -> settings.SegmentSettings:
    """Build the settings from the values of :func:`segment_options`.

    The command line wins over the file of ``--config``, the file over the defaults.

    Parameters
    ----------
    ctx : click.Context
        Of the verb: it knows which values were given.
    values : mapping
        ``config`` and ``section__field``, as the verb got them.

    Raises
    ------
    SettingsError
        If the file is wrong, or a value is out of range.
    """
    return _gather(ctx, values)[0]


def settings_and_origins(ctx: click.Context, values: Mapping[str, Any]) -> tuple[settings.SegmentSettings, Origins]:
    """Build the settings as :func:`segment_settings` does, and tell where each value came from.

    Returns
    -------
    settings : SegmentSettings
    origins : dict
        ``default``, ``command line`` or the name of the file.

    Raises
    ------
    SettingsError
        If the file is wrong, or a value is out of range.
    """
    chosen, file, given = _gather(ctx, values)
    origins = {(section, name): "default" for section, fields in DEFAULTS.items() for name in fields}
    origins |= dict.fromkeys(_keys(file), str(values["config"]))
    origins |= dict.fromkeys(_keys(given), "command line")
    return chosen, origins


def _gather(
    ctx: click.Context, values: Mapping[str, Any]
) -> tuple[settings.SegmentSettings, dict[str, Any], dict[str, dict[str, Any]]]:
    config: Path | None = values["config"]
    file = settings.read_toml(config) if config else {}
    given: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        if key != "config" and ctx.get_parameter_source(key) == ParameterSource.COMMANDLINE:
            section, name = key.split("__")
            given.setdefault(section, {})[name] = str(value) if isinstance(value, Path) else value
    merged = dict(file)
    for section, fields in given.items():
        below = merged.get(section, {})
        merged[section] = {**below, **fields} if isinstance(below, dict) else below
    where = "settings" if config is None else f"command line and {config}" if given else str(config)
    return settings.from_data(settings.SegmentSettings, merged, where), file, given


def _keys(data: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    return ((section, name) for section, fields in data.items() for name in fields)


_OPTIONS = (
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Settings file (TOML), as `dualproto-wsi config show` prints; options given here win over it.",
    ),
    setting(
        "--model",
        "inference.model",
        metavar="NAME|FILE",
        help="Built-in model by name, a bundle file, or zero-shot (with --encoder and --prompts).",
    ),
    setting(
        "--encoder",
        "inference.encoder",
        metavar="NAME",
        help="Encoder of zero-shot: conch, or open_clip:MODEL[:PRETRAINED|FILE].",
    ),
    setting(
        "--prompts",
        "inference.prompts",
        metavar="NAME|FILE",
        help="Classes and descriptions of zero-shot: bcss, or a TOML file.",
    ),
    setting("--weights", "inference.weights", default=None, **options.WEIGHTS),
    setting("--tokenizer", "inference.tokenizer", default=None, **options.TOKENIZER),
    setting(
        "--mpp",
        "read.mpp",
        type=float,
        metavar="X",
        help="Microns per full-resolution pixel, in place of what the file says.",
    ),
    setting("--reader", "read.reader", **options.READER),
    setting("--workers", "read.workers", metavar="N", help="Threads that read ahead.  [default: by cores and device]"),
    setting("--device", "inference.device", **options.DEVICE),
    setting(
        "--precision",
        "inference.precision",
        type=click.Choice(settings.PRECISIONS),
        help="auto: bf16 where GPU or CPU has it, else fp16 on a GPU, fp32 on a CPU.",
    ),
    setting(
        "--batch-size",
        "inference.batch_size",
        metavar="N",
        help="Windows a forward pass.  [default: 2 a CPU core, 64 on a GPU]",
    ),
    setting(
        "--compile",
        "inference.compile",
        is_flag=True,
        help="Let torch compile the model: a minute once, then faster. Needs a C++ compiler.",
    ),
    setting(
        "--gate",
        "inference.gate",
        type=float,
        metavar="F",
        help="How far the classes that a window seems to hold count in its map, 0 to 10.  [default: as the model says]",
    ),
    setting(
        "--cache-features",
        "features.cache",
        type=click.Path(path_type=Path),
        default=None,
        metavar="DIR",
        help="Keep the features of every window in DIR, for --from-features.",
    ),
    setting(
        "--cache-level",
        "features.level",
        type=click.Choice(settings.FEATURE_LEVELS),
        help="What is kept: head (small; for other prompts, prototypes, calibration, gate) or encoder (large; for any "
        "head on that encoder).",
    ),
    setting(
        "--cache-limit",
        "features.limit_gb",
        metavar="GB",
        help="Keep no more than this in DIR; slides that do not fit are mapped without.",
    ),
    setting(
        "--from-features",
        "features.source",
        type=click.Path(path_type=Path),
        default=None,
        metavar="DIR",
        help="Score the features kept in DIR instead of running the encoder; its weights are not needed.",
    ),
    setting(
        "--overlap",
        "tiling.overlap",
        metavar="F",
        help="Share of a window's side that it has in common with its neighbour.",
    ),
    setting(
        "--refine",
        "refine.method",
        type=click.Choice(settings.REFINERS),
        help="Move borders to the edges in the picture: crf (pydensecrf) or fast (nearly the same, on CPU or GPU).",
    ),
    setting(
        "--refine-preset",
        "refine.preset",
        type=click.Choice(tuple(settings.PRESETS)),
        help="How strongly: default (gentle), or the published method's, which erases small regions.",
    ),
    setting(
        "--unsure-below",
        "labels.unsure_below",
        metavar="P",
        help="Call a place 'Unsure' where the best class has a lower probability.  [default: off]",
    ),
    setting(
        "--min-area",
        "labels.min_area_um2",
        metavar="UM2",
        help="Let regions smaller than this (µm²) join a neighbour; isolated specks go.  [default: none]",
    ),
    setting(
        "--fill-holes",
        "labels.fill_holes_um2",
        metavar="UM2",
        help="Fill holes without a class that are smaller than this (µm²).  [default: none]",
    ),
    setting(
        "--simplify",
        "output.simplify_um",
        metavar="UM",
        help="Smooth outlines by up to this (µm): fewer vertices, neighbours still meet.  [default: exact]",
    ),
    setting(
        "--formats",
        "output.formats",
        type=CommaList(settings.FORMATS),
        metavar="LIST",
        help="Polygon files to write: geojson, geojson.gz, or both with a comma.",
    ),
    setting(
        "--export",
        "output.exports",
        type=CommaList(settings.EXPORTS),
        show_default=False,
        metavar="LIST",
        help="The same for other programs: ome-tiff and dicom-seg (label map), annotationstore and parquet (regions); "
        "several with commas.  [default: none]",
    ),
    setting(
        "--object-type",
        "output.object_type",
        type=click.Choice(settings.OBJECT_TYPES),
        help="What QuPath gets: an annotation or a detection a region, or a tile a grid square, with the classes' "
        "shares.",
    ),
    setting(
        "--square",
        "output.square_um",
        metavar="UM",
        help="Side of the grid squares of --object-type tile (µm), in whole cells.",
    ),
    setting("--merge-per-class", "output.merge_per_class", is_flag=True, help="Write one feature a class."),
    setting(
        "--outline",
        "output.outline",
        is_flag=True,
        help="Add an annotation around all that was analysed, with the slide's areas.",
    ),
    setting(
        "--frame",
        "output.frame",
        type=click.Choice(settings.FRAMES),
        help="Origin of the polygons: where QuPath crops the slide, or the whole file.",
    ),
    setting(
        "--confidence/--no-confidence",
        "output.confidence",
        help="Make confidence.tif, percent a cell.",
        show_default=True,
    ),
    setting("--overlay/--no-overlay", "output.overlay", help="Make overlay.png.", show_default=True),
    setting("--timeout", "run.timeout_s", metavar="S", help="Give a slide up after so many seconds.  [default: never]"),
    setting("--retry-failed", "run.retry_failed", is_flag=True, help="Do only the slides that failed before."),
    setting("--force", "run.force", is_flag=True, help="Do slides again that are done and unchanged."),
    setting(
        "--cluster",
        "run.cluster",
        metavar="SPEC",
        help="Do slides on a Dask cluster: dask://HOST:PORT, slurm:FILE (TOML), or local:N processes. All machines see "
        "slides, -o and models by the same paths, on storage with flock.",
    ),
    setting(
        "--isolate/--no-isolate",
        "run.isolate",
        show_default=True,
        help="Work in processes of their own, so that a crash costs one slide alone.",
    ),
)


def segment_options(command: F) -> F:
    """Add ``--config`` and every option of the segment settings to a verb; it gets them as ``**values``."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)
