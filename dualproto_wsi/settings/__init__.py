"""Settings: one frozen dataclass a step, plain data in and out, unknown keys refused.

Every dataclass checks its own values when it is made, so a settings object that exists is valid.
"""

from dualproto_wsi.settings.convert import from_data, load_toml, read_toml, to_data, to_toml
from dualproto_wsi.settings.head import MAPS, MERGES, NORMS, HeadSettings
from dualproto_wsi.settings.refine import PRESETS, REFINERS, CrfParameters, RefineSettings
from dualproto_wsi.settings.run import RunSettings
from dualproto_wsi.settings.segment import (
    FORMATS,
    FRAMES,
    OBJECT_TYPES,
    PRECISIONS,
    READERS,
    ZERO_SHOT,
    InferenceSettings,
    LabelSettings,
    OutputSettings,
    ReadSettings,
    SegmentSettings,
    TilingSettings,
    TissueSettings,
)
from dualproto_wsi.settings.train import LAYOUTS, TrainSettings

__all__ = [
    "FORMATS",
    "FRAMES",
    "LAYOUTS",
    "MAPS",
    "MERGES",
    "NORMS",
    "OBJECT_TYPES",
    "PRECISIONS",
    "PRESETS",
    "READERS",
    "REFINERS",
    "ZERO_SHOT",
    "CrfParameters",
    "HeadSettings",
    "InferenceSettings",
    "LabelSettings",
    "OutputSettings",
    "ReadSettings",
    "RefineSettings",
    "RunSettings",
    "SegmentSettings",
    "TilingSettings",
    "TissueSettings",
    "TrainSettings",
    "from_data",
    "load_toml",
    "read_toml",
    "to_data",
    "to_toml",
]
