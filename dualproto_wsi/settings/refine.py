"""Settings of boundary refinement."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from dualproto_wsi.settings.checks import one_of, require

REFINERS = ("none", "crf", "fast")


@dataclass(frozen=True, slots=True)
class CrfParameters:
    """A fully connected CRF: how strongly cells that are near, or near and of like colour, take each other's label.

    Distances are in model px, whatever the size of a cell; the refiners turn them into cells.

    Parameters
    ----------
    gaussian_sxy_px : float
        Reach of the kernel that smooths, sigma, model px.
    gaussian_compat : float
        Its weight; 0 leaves it out.
    bilateral_sxy_px : float
        Reach of the kernel that follows colours, sigma, model px.
    bilateral_srgb : float
        How far colours may differ in it, sigma, 8-bit levels.
    bilateral_compat : float
        Its weight; 0 leaves it out.
    iterations : int
        Steps of the mean field.
    """

    gaussian_sxy_px: float
    gaussian_compat: float
    bilateral_sxy_px: float
    bilateral_srgb: float
    bilateral_compat: float
    iterations: int = 5

    def __post_init__(self) -> None:
        for name in ("gaussian_sxy_px", "bilateral_sxy_px", "bilateral_srgb"):
            value = getattr(self, name)
            require(0.1 <= value <= 100, f"{name} is {value}; use 0.1 to 100")
        for name in ("gaussian_compat", "bilateral_compat"):
            value = getattr(self, name)
            require(0 <= value <= 1000, f"{name} is {value}; use 0 (leave this kernel out) to 1000")
        require(1 <= self.iterations <= 50, f"iterations is {self.iterations}; use 1 to 50")


PRESETS = {
    "default": CrfParameters(15.0, 0.0, 10.0, 20.0, 2.0),
    "released": CrfParameters(15.0, 30.0, 10.0, 20.0, 50.0),
}
"""``released``: the parameters of the published method. ``default``: without the smoothing that sees no colour, which
erases small regions and finds no edges, and a weight that scores of some certainty withstand."""


@dataclass(frozen=True, slots=True)
class RefineSettings:
    """Whether and how borders between classes are moved to the edges seen in the picture.

    Parameters
    ----------
    method : str
        ``none``; ``crf`` (pydensecrf, in worker processes); ``fast`` (the same model in torch, on CPU or GPU).
    preset : str
        ``default`` (gentle) or ``released`` (the published method's).
    gaussian_sxy_px, gaussian_compat, bilateral_sxy_px, bilateral_srgb, bilateral_compat : float or None
        Replace one value of the preset, see :class:`CrfParameters`; distances in model px.
    iterations : int or None
        Replaces the preset's.
    """

    method: str = "none"
    preset: str = "default"
    gaussian_sxy_px: float | None = None
    gaussian_compat: float | None = None
    bilateral_sxy_px: float | None = None
    bilateral_srgb: float | None = None
    bilateral_compat: float | None = None
    iterations: int | None = None

    def __post_init__(self) -> None:
        one_of("refine method", self.method, REFINERS)
        one_of("refine preset", self.preset, tuple(PRESETS))
        given = [f.name for f in fields(CrfParameters) if getattr(self, f.name) is not None]
        given += ["preset"] if self.preset != "default" else []
        require(
            self.method != "none" or not given,
            f"refine {', '.join(given)} is set, but the method is none; choose fast or crf (--refine)",
        )
        _ = self.parameters  # checks the values

    @property
    def parameters(self) -> CrfParameters:
        """The preset with the values that replace some of its own."""
        given = {f.name: getattr(self, f.name) for f in fields(CrfParameters)}
        return replace(PRESETS[self.preset], **{name: value for name, value in given.items() if value is not None})
