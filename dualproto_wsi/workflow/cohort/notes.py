"""What a reader of any cohort must know."""

from __future__ import annotations

from dualproto_wsi.settings.cohort import CohortSettings
from dualproto_wsi.stats.cohort.definitions import ROLES, Definitions
from dualproto_wsi.workflow.cohort.results import some


def cohort_notes(definitions: Definitions, settings: CohortSettings, by: str) -> list[str]:
    """Return what a reader must know of every cohort; ``by`` is the column of the groups."""
    notes = [
        "Numbers are of label maps that a model made: they are as right as the model is on these slides.",
        "A patient's slides are put together by area: areas, lengths and squares are added up, and shares are of the "
        "sums. Failed slides are in no figure.",
    ]
    if settings.bootstrap:
        notes.append(
            f"95 % intervals of slides and patients are from {settings.bootstrap} draws of blocks of about "
            f"{settings.block_squares * settings.mixing_um / 1000:g} mm; they tell how uneven the tissue is, not how "
            "wrong the model may be. Intervals of means are from draws of patients."
        )
    if by:
        notes.append(
            "Groups: Mann-Whitney U and Cliff's delta (above 0: the first group is higher; interval by Newcombe's "
            "method 5), with more than two groups Kruskal-Wallis and epsilon squared; p two-sided, adjusted over the "
            "measures by Benjamini and Hochberg."
        )
    missing = [role for role in ROLES if role not in definitions.roles]
    if missing:
        notes.append(
            f"No class of the model ({', '.join(definitions.classes.names)}) is known as {some(missing)}: measures "
            "that need it are empty. If one is, say so with --role ROLE=CLASS."
        )
    return notes
