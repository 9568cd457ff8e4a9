"""What is refused before a training or an evaluation: data that would make its figures worthless."""

from __future__ import annotations

from dualproto_wsi.data.images import ABSENT, PRESENT, Dataset
from dualproto_wsi.errors import DataError

_NAMED = 5


def check_patients(train: Dataset, test: Dataset) -> None:
    """Refuse two splits that show tissue of the same patient.

    Raises
    ------
    DataError
        Names the patients.
    """
    both = sorted(set(train.patients) & set(test.patients))
    if both:
        more = f" and {len(both) - _NAMED} more" if len(both) > _NAMED else ""
        raise DataError(
            f"{train.name}: {len(both)} patient(s) in both splits, {', '.join(both[:_NAMED])}{more}; scores on"
            " them would be too good: keep all images of a patient in one split"
        )


def check_classes(dataset: Dataset) -> None:
    """Refuse image-level labels that cannot teach a class: all images known to hold it, or none.

    Raises
    ------
    DataError
        Names the class.
    """
    for position, name in enumerate(dataset.classes.names):
        labels = [int(image.labels[position]) for image in dataset.images]
        present, absent = labels.count(PRESENT), labels.count(ABSENT)
        if not present or not absent:
            which = "no image holds" if not present else "no image is known to be without"
            raise DataError(
                f"{dataset.name}: {which} {name!r} ({present} with, {absent} without, {len(labels)} images), so it"
                " cannot be learned; add such images, or leave the class out of --classes"
            )
