"""What is known of a cohort: slides, patients, groups, and what every number means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Value = float | int | str | None
"""A cell of a table; undefined is None, never 0."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A column, as the data dictionary tells it.

    Parameters
    ----------
    name : str
        Of the column, with its unit where it has one: ``tumor_mm2``.
    title : str
        As a person reads it: "Tumor area".
    unit : str
        ``mm²``, ``µm``, ``1`` …
    definition, formula : str
        In words, and in terms of the label map or of other columns.
    source : str
        Where the definition comes from: a citation with DOI, or "this project".
    interval : bool
        Whether ``<name>_low`` and ``<name>_high``, its 95 % interval, are among the values, too.
    main : bool
        Whether groups are compared in it, and outliers looked for.
    """

    name: str
    title: str
    unit: str
    definition: str
    formula: str
    source: str = "this project"
    interval: bool = False
    main: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """Something about a slide that a person should look at.

    Parameters
    ----------
    slide : str
        Key of the slide.
    kind : str
        ``failed``, ``empty``, ``pixel size``, ``low tissue``, ``low confidence``, ``stain``, ``focus``, ``pen``,
        ``outlier`` …
    severity : str
        ``error`` (the slide is not in the numbers), ``warning`` or ``note``.
    text : str
        One sentence with the value and its usual range.
    """

    slide: str
    kind: str
    severity: str
    text: str


@dataclass(frozen=True, slots=True)
class CohortSlide:
    """One slide; also an empty or failed one is.

    Parameters
    ----------
    key : str
        Unique in the cohort.
    name : str
        File name of the slide.
    patient, group : str
        Empty where not known.
    status : str
        ``done``, ``empty`` or ``failed``.
    values : mapping of str to Value
        By measure; what is undefined is None.
    files : mapping of str to str
        ``overlay``, ``folder``, ``regions``, ``labels``, ``record`` …: paths relative to the report's folder, with
        ``/``.
    about : mapping of str to str
        Further columns that the user gave.
    error : str
        Why it failed.
    """

    key: str
    name: str
    patient: str
    group: str
    status: str
    values: Mapping[str, Value]
    files: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class CohortPatient:
    """One patient: the slides together, area-weighted.

    Parameters
    ----------
    patient, group : str
    slides : tuple of str
        Keys of the slides that count.
    values : mapping of str to Value
        By measure.
    about : mapping of str to str
        The patient's row of the metadata.
    """

    patient: str
    group: str
    slides: tuple[str, ...]
    values: Mapping[str, Value]
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Summary:
    """A measure over the patients of a group; over slides where no patients are known.

    Parameters
    ----------
    measure, group : str
        The group is empty for all patients together.
    count : int
        Patients with a value.
    mean, low, high : float or None
        Mean and its 95 % interval, a bootstrap over patients; None with fewer than three.
    median, q1, q3 : float or None
    """

    measure: str
    group: str
    count: int
    mean: float | None
    low: float | None
    high: float | None
    median: float | None
    q1: float | None
    q3: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Groups compared in one measure.

    Parameters
    ----------
    measure : str
    groups : tuple of str
    counts : tuple of int
        Patients with a value in each group.
    medians : tuple of float
    test : str
        Which test: "Mann-Whitney U", "Kruskal-Wallis".
    effect_name : str
        ``Cliff's delta``, ``epsilon squared`` …
    effect, effect_low, effect_high : float or None
        With its 95 % interval.
    p, p_adjusted : float or None
        Adjusted for the number of measures compared.
    warning : str
        Plain words where n is small; empty otherwise.
    """

    measure: str
    groups: tuple[str, ...]
    counts: tuple[int, ...]
    medians: tuple[float, ...]
    test: str
    effect_name: str
    effect: float | None
    effect_low: float | None
    effect_high: float | None
    p: float | None
    p_adjusted: float | None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Survival:
    """Kaplan-Meier curves of groups.

    Parameters
    ----------
    groups : tuple of str
    times, shares, low, high : tuple of tuple of float
        Steps of each group's curve and its 95 % band.
    at_risk : tuple of int
        Patients of each group at the beginning.
    p : float or None
        Log-rank test.
    unit : str
        Of the times, as the user calls the column.
    """

    groups: tuple[str, ...]
    times: tuple[tuple[float, ...], ...]
    shares: tuple[tuple[float, ...], ...]
    low: tuple[tuple[float, ...], ...]
    high: tuple[tuple[float, ...], ...]
    at_risk: tuple[int, ...]
    p: float | None
    unit: str


@dataclass(frozen=True, slots=True)
class Cohort:
    """Everything that tables and report are made of.

    Parameters
    ----------
    title : str
    created : str
        ISO time.
    model : str
        Which model made the maps; several are told as such.
    classes : tuple of (str, (int, int, int))
        Name and colour of each class, in order.
    slides : tuple of CohortSlide
    patients : tuple of CohortPatient
        Empty where no patients are known.
    measures : tuple of Measure
        In order of the columns; the data dictionary.
    flags : tuple of Flag
    by : str
        The column that groups come from; empty: none.
    comparisons : tuple of Comparison
    survival : Survival or None
    notes : tuple of str
        What a reader must know, a sentence each: how patients are made of slides, what was left out.
    summaries : tuple of Summary
        Of the main measures, all patients first.
    """

    title: str
    created: str
    model: str
    classes: tuple[tuple[str, tuple[int, int, int]], ...]
    slides: tuple[CohortSlide, ...]
    patients: tuple[CohortPatient, ...]
    measures: tuple[Measure, ...]
    flags: tuple[Flag, ...] = ()
    by: str = ""
    comparisons: tuple[Comparison, ...] = ()
    survival: Survival | None = None
    notes: tuple[str, ...] = ()
    summaries: tuple[Summary, ...] = ()
