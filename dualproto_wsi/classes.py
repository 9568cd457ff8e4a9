"""Tissue classes: id, name, colour and descriptions, in one place.

Ids 1…K are classes. Two values of a label map are no class of the model: :data:`NOT_ANALYSED` and, where it is switched
on, :data:`UNSURE`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dualproto_wsi.errors import SettingsError

NOT_ANALYSED = 0
"""Label of everything that was not looked at: glass, pen, outside."""

UNSURE = 255
"""Label of analysed tissue whose best class is below the stated confidence."""

UNSURE_NAME = "Unsure"

MAX_CLASSES = 254


@dataclass(frozen=True, slots=True)
class TissueClass:
    """One class.

    Parameters
    ----------
    id : int
        Value in the label map, 1…254; 255 is :data:`UNSURE_CLASS`.
    name : str
        Name shown in QuPath; one line, without ``:`` (which makes a derived class there).
    colour : tuple of int
        (red, green, blue), 0…255.
    descriptions : tuple of str
        Texts that describe how the class looks; each becomes a text prototype.
    """

    id: int
    name: str
    colour: tuple[int, int, int]
    descriptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.id <= MAX_CLASSES and (self.id, self.name) != (UNSURE, UNSURE_NAME):
            raise SettingsError(f"class {self.name!r}: id {self.id} is outside 1…{MAX_CLASSES}")
        if not self.name.strip() or self.name != self.name.strip() or any(c in self.name for c in ":\n\r\t"):
            raise SettingsError(
                f"class {self.id}: name {self.name!r} must be one non-empty line without ':' or outer blanks"
            )
        if len(self.colour) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in self.colour):
            raise SettingsError(f"class {self.name!r}: colour {self.colour!r} must be three integers 0…255")


UNSURE_CLASS = TissueClass(UNSURE, UNSURE_NAME, (128, 128, 128))
"""What :data:`UNSURE` is called and how it is drawn; part of no scheme, since no model scores it."""


@dataclass(frozen=True, slots=True)
class ClassScheme:
    """The ordered classes of a model; class ``i`` (0-based) of its scores has id ``i + 1``.

    Parameters
    ----------
    classes : tuple of TissueClass
        With ids 1…K in order and different names.
    """

    classes: tuple[TissueClass, ...]

    def __post_init__(self) -> None:
        if not self.classes:
            raise SettingsError("a class scheme needs at least one class")
        ids = [c.id for c in self.classes]
        if ids != list(range(1, len(ids) + 1)):
            raise SettingsError(f"class ids must be 1…{len(ids)} in order, not {ids}")
        names = [c.name.casefold() for c in self.classes]
        if len(set(names)) != len(names):
            raise SettingsError(f"class names must differ: {', '.join(c.name for c in self.classes)}")
        if UNSURE_NAME.casefold() in names:
            raise SettingsError(f"class name {UNSURE_NAME!r} is taken: it names tissue of no confident class")

    def __len__(self) -> int:
        return len(self.classes)

    def __iter__(self) -> Iterator[TissueClass]:
        return iter(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in order of their ids."""
        return tuple(c.name for c in self.classes)

    def by_id(self, class_id: int) -> TissueClass:
        """Return the class of a label value, :data:`UNSURE` included.

        Raises
        ------
        SettingsError
            If no class has that id.
        """
        if class_id == UNSURE:
            return UNSURE_CLASS
        if not 1 <= class_id <= len(self.classes):
            raise SettingsError(f"no class has the id {class_id}; ids are 1…{len(self.classes)}")
        return self.classes[class_id - 1]

    def to_json(self) -> list[dict[str, Any]]:
        """Return plain data, as stored in a model card."""
        return [
            {"id": c.id, "name": c.name, "colour": list(c.colour), "descriptions": list(c.descriptions)}
            for c in self.classes
        ]

    @classmethod
    def from_json(cls, data: list[dict[str, Any]]) -> ClassScheme:
        """Build a scheme from :meth:`to_json`'s data.

        Raises
        ------
        SettingsError
            If a field is missing or wrong.
        """
        try:
            return cls(
                tuple(
                    TissueClass(
                        int(c["id"]),
                        str(c["name"]),
                        _colour(c["colour"]),
                        tuple(map(str, c.get("descriptions", ()))),
                    )
                    for c in data
                )
            )
        except SettingsError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise SettingsError(f"class scheme: {error!r} is missing or of the wrong type") from error


def _colour(values: list[int]) -> tuple[int, int, int]:
    red, green, blue = values
    return int(red), int(green), int(blue)
