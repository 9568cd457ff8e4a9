"""Which class has which role, and what columns are called."""

from __future__ import annotations

import pytest

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.errors import SettingsError
from dualproto_wsi.stats.cohort.definitions import Definitions, column_names, find_roles
from dualproto_wsi.stats.cohort.measures import list_formulas


def scheme(*names: str) -> ClassScheme:
    return ClassScheme(tuple(TissueClass(i, name, (0, 0, 0)) for i, name in enumerate(names, start=1)))


def test_roles_by_name_and_by_the_user() -> None:
    classes = scheme("Stroma", "TUMOUR", "Immune cells", "Fat")
    assert find_roles(classes, {}) == {"stroma": 1, "tumor": 2, "lymphocyte": 3}
    assert find_roles(classes, {"necrosis": "fat"}) == {"stroma": 1, "tumor": 2, "lymphocyte": 3, "necrosis": 4}
    assert find_roles(classes, {"stroma": "Fat"})["stroma"] == 4
    assert find_roles(scheme("Tumor", "Carcinoma"), {"necrosis": "Carcinoma"}) == {"tumor": 1, "necrosis": 2}


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (("Tumor",), {"fat": "Tumor"}, "role 'fat' is not known; roles are tumor, stroma, lymphocyte, necrosis"),
        (
            ("Tumor", "Fat"),
            {"stroma": "Skin"},
            "role stroma: the model has no class 'Skin'; its classes are Tumor, Fat",
        ),
        (
            ("Tumor", "Carcinoma"),
            {},
            "role tumor: Tumor, Carcinoma are both known names of it; say which with --role tumor=CLASS",
        ),
        (
            ("Tumor", "Fat"),
            {"stroma": "Fat", "necrosis": "Fat"},
            "one class cannot be necrosis and stroma; give each role a class of its own",
        ),
    ],
)
def test_wrong_roles(names: tuple[str, ...], given: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        find_roles(scheme(*names), given)
    assert str(error.value) == message


def test_columns_differ_from_each_other_and_from_ours() -> None:
    assert column_names(scheme("Tumor", "In-situ  tumor", "In situ tumor", "Analysed", "???")) == [
        "tumor",
        "in_situ_tumor",
        "in_situ_tumor_3",
        "analysed_4",
        "class",
    ]


@pytest.mark.parametrize("names", [("Tumor", "Stroma", "Lymphocyte", "Necrosis"), ("Skin", "Fat")])
def test_every_measure_is_told_once_and_wholly(names: tuple[str, ...]) -> None:
    classes = scheme(*names)
    formulas = list_formulas(Definitions(classes, find_roles(classes, {}), (100.0, 500.0), 0.01, 200.0, 5))
    measures = [formula.measure for formula in formulas]
    columns = [name for m in measures for name in (m.name, f"{m.name}_low", f"{m.name}_high")]
    assert len(set(columns)) == len(columns)
    assert all(m.title and m.unit and m.definition.endswith(".") and m.formula and m.source for m in measures)
    cited = {m.name for m in measures if "doi:" in m.source}
    assert {"tumor_stroma_ratio", "stromal_lymphocyte_fraction", "margin_lymphocyte_fraction"} <= cited
    assert "margin_in_100_500um_lymphocyte_fraction" in {m.name for m in measures}
