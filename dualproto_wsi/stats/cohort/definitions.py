"""What is measured, of which classes, in which bands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.errors import SettingsError

TUMOR, STROMA, LYMPHOCYTE, NECROSIS = "tumor", "stroma", "lymphocyte", "necrosis"

ROLES: Mapping[str, tuple[str, ...]] = {
    TUMOR: ("tumor", "tumour", "tumor cells", "tumor epithelium", "cancer", "carcinoma", "invasive carcinoma"),
    STROMA: ("stroma", "tumor stroma", "tumour stroma", "tumor-associated stroma", "connective tissue"),
    LYMPHOCYTE: ("lymphocyte", "lymphocytes", "lymphocytic infiltrate", "immune cells", "inflammatory", "tils"),
    NECROSIS: ("necrosis", "necrotic", "necrosis or debris"),
}
"""Class names, case folded, that are taken for a role unless the user says which class has it."""


@dataclass(frozen=True, slots=True)
class Definitions:
    """What is measured.

    Parameters
    ----------
    classes : ClassScheme
    roles : mapping of str to int
        Id of the class that has a role of :data:`ROLES`; a role that no class has is left out.
    margins_um : tuple of float
        Outer limits of the bands on both sides of the tumour front, µm, ascending.
    front_mm2 : float
        Tumour regions (with necrosis) and gaps in them below this area make no front, mm².
    square_um : float
        Side of the squares that mixing is measured on, µm.
    block_squares : int
        Squares along the side of the blocks that intervals are drawn from.
    """

    classes: ClassScheme
    roles: Mapping[str, int]
    margins_um: tuple[float, ...]
    front_mm2: float
    square_um: float
    block_squares: int

    def name_of(self, role: str) -> str:
        """Return the name of the class that has a role; the role where none has it."""
        return self.classes.names[self.roles[role] - 1] if role in self.roles else role

    def bands(self) -> list[tuple[float, float]]:
        """Return (from, to) of the margin's bands, µm."""
        return list(zip((0.0, *self.margins_um), self.margins_um, strict=False))


def find_roles(classes: ClassScheme, given: Mapping[str, str]) -> dict[str, int]:
    """Find which class has which role.

    Parameters
    ----------
    classes : ClassScheme
    given : mapping of str to str
        Class names by role, where the user says so.

    Returns
    -------
    dict of str to int
        Ids by role.

    Raises
    ------
    SettingsError
        If there is no such role or class, one class is given two roles, or two classes are known names of one role.
    """
    ids = {c.name.casefold(): c.id for c in classes}
    listed = ", ".join(classes.names)
    for role, name in given.items():
        if role not in ROLES:
            raise SettingsError(f"role {role!r} is not known; roles are {', '.join(ROLES)}")
        if name.casefold() not in ids:
            raise SettingsError(f"role {role}: the model has no class {name!r}; its classes are {listed}")
    roles = {role: ids[name.casefold()] for role, name in given.items()}
    for role, names in ROLES.items():
        known = [ids[name] for name in names if name in ids and ids[name] not in roles.values()]
        if role in roles or not known:
            continue
        if len(known) > 1:
            both = ", ".join(classes.names[i - 1] for i in sorted(known))
            raise SettingsError(f"role {role}: {both} are both known names of it; say which with --role {role}=CLASS")
        roles[role] = known[0]
    doubled = sorted(role for role in roles if list(roles.values()).count(roles[role]) > 1)
    if doubled:
        raise SettingsError(f"one class cannot be {' and '.join(doubled)}; give each role a class of its own")
    return roles


def column_names(classes: ClassScheme) -> list[str]:
    """Return a name for columns of each class: lower case, ``_`` for what is no letter or digit; all different."""
    taken = {"analysed", "unsure", "margin", "tissue", "region"}
    names = []
    for c in classes:
        name = "_".join("".join(s if s.isalnum() else " " for s in c.name.casefold()).split()) or "class"
        names.append(f"{name}_{c.id}" if name in taken else name)
        taken.add(names[-1])
    return names
