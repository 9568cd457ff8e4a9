from __future__ import annotations

from typing import Any

import pytest

from dualproto_wsi.errors import SettingsError
from dualproto_wsi.settings import EvaluateSettings, from_data, to_data


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layout": "zip"}, "layout is 'zip'; choose one of brca-m2c, "),
        ({"gates": ("none", "sure")}, "gate is 'sure'; choose one of none, oracle, predicted"),
        ({"gates": ("none", "none")}, "gate is none, none; name each once"),
        ({"gates": ()}, "gates is empty; name at least one"),
        ({"backgrounds": ("black",)}, "background is 'black'; choose one of excluded, glass, released"),
        ({"refiners": ("slow",)}, "refine is 'slow'; choose one of none, crf, fast"),
        ({"refiners": ()}, "refiners is empty; name at least one"),
        ({"refine_preset": "released"}, "refine preset is 'released', but nothing is refined; choose fast or crf"),
        ({"mpp": 0.0}, "mpp is 0.0; use 0.01 to 100"),
        ({"threshold": 1.0}, "threshold is 1.0; use above 0 to below 1"),
        ({"boundary_um": 0.0}, "boundary_um is 0.0; use above 0 to 1000"),
        ({"small_um2": -1.0}, "small_um2 is -1.0; it must be above 0"),
        ({"bootstrap": 10}, "bootstrap is 10; use 0 (no intervals), or 100 and more"),
    ],
)
def test_wrong_values_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        EvaluateSettings(**given)
    assert message in str(error.value)


def test_settings_are_plain_data_and_back() -> None:
    settings = EvaluateSettings(refiners=("none", "crf"), refine_preset="released", mpp=0.5)
    assert from_data(EvaluateSettings, to_data(settings)) == settings
