"""Settings: one frozen dataclass a step, plain data in and out, unknown keys refused.

Every dataclass checks its own values when it is made, so a settings object that exists is valid.
"""

from dualproto_wsi.settings.ablate import AblateSettings, Variant, read_ablation
from dualproto_wsi.settings.cluster import ClusterSpec, SlurmSettings, parse_cluster
from dualproto_wsi.settings.convert import from_data, load_toml, read_toml, to_data, to_toml
from dualproto_wsi.settings.evaluate import BACKGROUNDS, GATES, EvaluateSettings
from dualproto_wsi.settings.features import FEATURE_LEVELS, FeatureSettings
from dualproto_wsi.settings.head import KINDS, MAPS, MERGES, NORMS, HeadSettings
from dualproto_wsi.settings.learning import (
    POOLINGS,
    SCHEDULES,
    AugmentSettings,
    ContinueSettings,
    ObjectiveSettings,
    OptimiserSettings,
)
from dualproto_wsi.settings.refine import PRESETS, REFINERS, CrfParameters, RefineSettings
from dualproto_wsi.settings.run import RunSettings
from dualproto_wsi.settings.segment import (
    EXPORTS,
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
from dualproto_wsi.settings.text import CONTEXT_STARTS, TEXT_LAYOUTS, TextSettings
from dualproto_wsi.settings.train import (
    CALIBRATIONS,
    LAYOUTS,
    SELECTIONS,
    DataSettings,
    EncoderSettings,
    TrainSettings,
    ValidationSettings,
)
from dualproto_wsi.settings.train_presets import TRAIN_PRESETS, changes, overlay, train_preset, train_settings

__all__ = [
    "BACKGROUNDS",
    "CALIBRATIONS",
    "CONTEXT_STARTS",
    "EXPORTS",
    "FEATURE_LEVELS",
    "FORMATS",
    "FRAMES",
    "GATES",
    "KINDS",
    "LAYOUTS",
    "MAPS",
    "MERGES",
    "NORMS",
    "OBJECT_TYPES",
    "POOLINGS",
    "PRECISIONS",
    "PRESETS",
    "READERS",
    "REFINERS",
    "SCHEDULES",
    "SELECTIONS",
    "TEXT_LAYOUTS",
    "TRAIN_PRESETS",
    "ZERO_SHOT",
    "AblateSettings",
    "AugmentSettings",
    "ClusterSpec",
    "ContinueSettings",
    "CrfParameters",
    "DataSettings",
    "EncoderSettings",
    "EvaluateSettings",
    "FeatureSettings",
    "HeadSettings",
    "InferenceSettings",
    "LabelSettings",
    "ObjectiveSettings",
    "OptimiserSettings",
    "OutputSettings",
    "ReadSettings",
    "RefineSettings",
    "RunSettings",
    "SegmentSettings",
    "SlurmSettings",
    "TextSettings",
    "TilingSettings",
    "TissueSettings",
    "TrainSettings",
    "ValidationSettings",
    "Variant",
    "changes",
    "from_data",
    "load_toml",
    "overlay",
    "parse_cluster",
    "read_ablation",
    "read_toml",
    "to_data",
    "to_toml",
    "train_preset",
    "train_settings",
]
