"""Settings of the features of windows: keeping them, and starting from kept ones."""

from __future__ import annotations

from dataclasses import dataclass

from dualproto_wsi.settings.checks import one_of, require

FEATURE_LEVELS = ("head", "encoder")
LIMIT_GB = 50.0


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """Where features of windows are kept, and where they are taken from.

    Parameters
    ----------
    cache : str
        Folder to keep them in; empty: they are not kept.
    level : str
        What is kept: ``head`` (what prototypes, or texts, are compared with; small and fast) or ``encoder`` (its
        levels, for other heads on that encoder).
    limit_gb : float
        Most that the folder may hold, GB; slides that do not fit are not kept.
    source : str
        Folder to take them from instead of running the encoder; empty: slides are read and encoded.
    """

    cache: str = ""
    level: str = "head"
    limit_gb: float = LIMIT_GB
    source: str = ""

    def __post_init__(self) -> None:
        one_of("level", self.level, FEATURE_LEVELS)
        require(0 < self.limit_gb <= 1e6, f"limit_gb is {self.limit_gb:g}; use more than 0, up to 1000000")
        require(
            not (self.cache and self.source),
            "cache and source are both set: with --from-features nothing is encoded that could be cached",
        )
        for name, default in (("level", "head"), ("limit_gb", LIMIT_GB)):
            require(
                bool(self.cache) or getattr(self, name) == default,
                f"{name} is {getattr(self, name)}, but nothing is kept: give --cache-features, or leave it out",
            )
