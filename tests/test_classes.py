from __future__ import annotations

import pytest

from dualproto_wsi.classes import UNSURE, UNSURE_CLASS, ClassScheme, TissueClass
from dualproto_wsi.errors import SettingsError

TUMOR = TissueClass(1, "Tumor", (200, 0, 0), ("sheets of large nuclei",))
STROMA = TissueClass(2, "Stroma", (150, 200, 150))


def test_scheme_survives_plain_data():
    scheme = ClassScheme((TUMOR, STROMA))
    assert ClassScheme.from_json(scheme.to_json()) == scheme
    assert scheme.names == ("Tumor", "Stroma")
    assert scheme.by_id(2) is STROMA
    assert scheme.by_id(UNSURE) is UNSURE_CLASS
    assert len(scheme) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TissueClass(0, "A", (1, 2, 3)), "class 'A': id 0 is outside 1…254"),
        (lambda: TissueClass(255, "A", (1, 2, 3)), "id 255 is outside"),
        (lambda: TissueClass(1, "Tumor: big", (1, 2, 3)), "must be one non-empty line without ':'"),
        (lambda: TissueClass(1, " ", (1, 2, 3)), "class 1: name ' ' must be"),
        (lambda: TissueClass(1, "A", (1, 2, 300)), r"colour \(1, 2, 300\) must be three integers 0…255"),
        (lambda: ClassScheme(()), "needs at least one class"),
        (lambda: ClassScheme((STROMA,)), r"ids must be 1…1 in order, not \[2\]"),
        (lambda: ClassScheme((TUMOR, TissueClass(2, "tumor", (1, 2, 3)))), "names must differ: Tumor, tumor"),
        (lambda: ClassScheme((TissueClass(1, "unsure", (1, 2, 3)),)), "class name 'Unsure' is taken"),
        (lambda: ClassScheme((TUMOR,)).by_id(0), "no class has the id 0; ids are 1…1"),
        (lambda: ClassScheme.from_json([{"id": 1, "name": "A"}]), "KeyError.'colour'. is missing"),
    ],
)
def test_wrong_classes_are_refused(make, message):
    with pytest.raises(SettingsError, match=message):
        make()
