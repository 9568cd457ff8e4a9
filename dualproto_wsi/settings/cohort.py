"""Settings of the measures of a cohort."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from dualproto_wsi.settings.checks import require


@dataclass(frozen=True, slots=True)
class CohortSettings:
    """What is measured on label maps, and how intervals are made.

    Parameters
    ----------
    margins_um : tuple of float
        Outer limits of the bands on both sides of the tumour front, µm, ascending.
    front_mm2 : float
        Tumour regions, and gaps in them, below this area make no front, mm².
    mixing_um : float
        Side of the squares that mixing is measured on, µm.
    block_mm : float
        Side of the blocks of a slide that intervals are drawn from, mm; rounded to whole squares of ``mixing_um``.
    bootstrap : int
        Samples that intervals are made of; 0: no intervals.
    seed : int
        Of everything that is drawn.
    roles : tuple of (str, str)
        Role (``tumor``, ``stroma``, ``lymphocyte``, ``necrosis``) and name of the class that has it; a role that is not
        named goes to a class of a known name.
    """

    margins_um: tuple[float, ...] = (100.0, 250.0, 500.0)
    front_mm2: float = 0.01
    mixing_um: float = 200.0
    block_mm: float = 1.0
    bootstrap: int = 1000
    seed: int = 0
    roles: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        limits = (0.0, *self.margins_um)
        rising = len(limits) > 1 and all(low < high for low, high in pairwise(limits))
        told = ",".join(f"{limit:g}" for limit in self.margins_um)
        require(
            rising and limits[-1] <= 5000, f"margins_um is {told!r}; give rising distances up to 5000, as 100,250,500"
        )
        require(0 <= self.front_mm2 <= 100, f"front_mm2 is {self.front_mm2:g}; it must be 0 to 100")
        require(10 <= self.mixing_um <= 5000, f"mixing_um is {self.mixing_um:g}; it must be 10 to 5000")
        require(0.1 <= self.block_mm <= 100, f"block_mm is {self.block_mm:g}; it must be 0.1 to 100")
        require(0 <= self.bootstrap <= 100_000, f"bootstrap is {self.bootstrap}; it must be 0 to 100000")
        require(self.seed >= 0, f"seed is {self.seed}; it must be 0 or more")
        named = [role for role, _ in self.roles]
        require(len(set(named)) == len(named), f"role {max(named, key=named.count) if named else ''} is given twice")

    @property
    def block_squares(self) -> int:
        """Squares along the side of a block."""
        return max(1, round(self.block_mm * 1000 / self.mixing_um))
