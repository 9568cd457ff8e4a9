"""Times to an event, as a table of patients tells them."""

from __future__ import annotations

import math

from dualproto_wsi.stats.cohort.model import Survival
from dualproto_wsi.stats.cohort.survival import estimate_survival
from dualproto_wsi.workflow.cohort.patients import Patients
from dualproto_wsi.workflow.cohort.results import some
from dualproto_wsi.workflow.cohort.table import Metadata, TableLine

EVENTS = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "dead", "deceased", "1:deceased"), True),
    **dict.fromkeys(("0", "0.0", "false", "no", "alive", "living", "0:living", "censored"), False),
}


def read_survival(
    metadata: Metadata | None, patients: Patients, time: str, event: str
) -> tuple[Survival | None, list[str]]:
    """Estimate survival of the patients that have slides here, by group.

    Parameters
    ----------
    metadata : Metadata or None
    patients : Patients
    time, event : str
        Columns of the metadata; empty: nothing is estimated.

    Returns
    -------
    survival : Survival or None
    notes : list of str

    Raises
    ------
    DataError
        If a column is missing, a time is no number from 0 on, or an event is none of :data:`EVENTS`.
    """
    if metadata is None or not time:
        return None, []
    time, event = metadata.find(time, "--time"), metadata.find(event, "--event")
    groups: dict[str, list[tuple[float, bool]]] = {}
    empty = []
    with_slide = set(patients.of_slide.values())
    for patient, line in patients.lines.items():
        if patient not in with_slide or (patients.group and patient not in patients.group):
            continue
        if not (line.values[time] and line.values[event]):
            empty.append(patient)
            continue
        found = _time(metadata, line, time), _event(metadata, line, event)
        groups.setdefault(patients.group.get(patient, ""), []).append(found)
    notes = ["Survival: Kaplan-Meier with log-log bands, log-rank test; all groups are as the table tells them."]
    if empty:
        notes.append(f"{len(empty)} patient(s) have no {time!r} or {event!r} and are in no curve: {some(empty)}.")
    if not groups:
        raise metadata.wrong(
            metadata.lines[0], time, "and no other line has a time and an event of a patient with slides"
        )
    return estimate_survival({group: groups[group] for group in sorted(groups)}, time), notes


def _time(metadata: Metadata, line: TableLine, column: str) -> float:
    text = line.values[column]
    try:
        value = float(text)
    except ValueError as error:
        raise metadata.wrong(line, column, "is no number; give the time to the event or the last visit") from error
    if not 0 <= value < math.inf:
        raise metadata.wrong(line, column, "is no time; it must be 0 or more")
    return value


def _event(metadata: Metadata, line: TableLine, column: str) -> bool:
    found = EVENTS.get(line.values[column].casefold())
    if found is None:
        raise metadata.wrong(line, column, "is neither 1 (the event came) nor 0 (last seen without it)")
    return found
