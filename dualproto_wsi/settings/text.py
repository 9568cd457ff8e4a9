"""How descriptions become the text features that a head is trained with."""

from __future__ import annotations

from dataclasses import dataclass

from dualproto_wsi.settings.checks import one_of, require

TEXT_LAYOUTS = ("own", "released")
CONTEXT_STARTS = ("tiled", "released", "noise")


@dataclass(frozen=True, slots=True)
class TextSettings:
    """Text side of training.

    Parameters
    ----------
    slots : int
        Learned context vectors a class, between the beginning and the words of each of its descriptions; 0: the
        descriptions as they are. The published model has 16. Encoders ``conch`` and ``conch-released`` only.
    start : str
        What the context starts from: ``tiled``, the words "a histopathology image of" again and again; ``released``,
        those words once, then end tokens, with a little noise, as in the released code; ``noise`` alone.
    layout : str
        ``own``, the text tower's; ``released``: 77 places of CONCH's tower without a mask, as in the released code.
    """

    slots: int = 0
    start: str = "tiled"
    layout: str = "own"

    def __post_init__(self) -> None:
        require(0 <= self.slots <= 64, f"slots is {self.slots}; use 0 (no learned context) to 64")
        one_of("start", self.start, CONTEXT_STARTS)
        one_of("layout", self.layout, TEXT_LAYOUTS)
