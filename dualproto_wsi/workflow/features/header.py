"""What a file of features says of itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

import dualproto_wsi
from dualproto_wsi.geometry import Box
from dualproto_wsi.model.absent_encoder import EncoderFacts
from dualproto_wsi.model.segmenter import FeatureKey, Segmenter
from dualproto_wsi.workflow.batch.fingerprint import data_sha256

FORMAT = 1
SUFFIX = ".features"


@dataclass(frozen=True, slots=True)
class FeatureHeader:
    """Which slide, which features, and which windows.

    Parameters
    ----------
    slide_name, slide : str
        File name, and :func:`~dualproto_wsi.workflow.batch.fingerprint.slide_sha256`.
    key : FeatureKey
        What the features are.
    encoder : EncoderFacts
    model_mpp : float
        µm per model px.
    window_px : int
        Side of a window, model px.
    mpp : float
        µm per level-0 px.
    content : Box
        What the label grid lies over, level-0 px; windows are told from its top left.
    overlap : float
        Of the windows.
    tissue : dict
        Settings of the tissue that the windows lie on.
    regions : str
        SHA-256 of the file of regions that were analysed; empty: all of the slide.
    precision, device : str
        Of the encoder.
    field_shape : tuple of int
        (rows, columns) of the tissue mask.
    tissue_mm2 : float
        Area of the tissue.
    version : str
        Of this package.
    """

    slide_name: str
    slide: str
    key: FeatureKey
    encoder: EncoderFacts
    model_mpp: float
    window_px: int
    mpp: float
    content: Box
    overlap: float
    tissue: dict[str, Any]
    regions: str
    precision: str
    device: str
    field_shape: tuple[int, int]
    tissue_mm2: float
    version: str = dualproto_wsi.__version__

    def to_bytes(self) -> bytes:
        """Return it as JSON, with the version of its layout."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> Self:
        """Read :meth:`to_bytes`'s text.

        Raises
        ------
        ValueError
            If the layout's version is another, or it is no header.
        """
        try:
            data = json.loads(text)
            found = data.pop("format")
            if found != FORMAT:
                raise ValueError(f"its format is {found}, this version reads {FORMAT}")
            data["key"] = FeatureKey(**data["key"])
            data["encoder"] = EncoderFacts.from_json(data["encoder"])
            data["content"] = Box(**data["content"])
            data["field_shape"] = tuple(data["field_shape"])
            return cls(**data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"its header lacks something ({error!r})") from error


def file_name(slide: str, key: FeatureKey, model: Segmenter) -> str:
    """Name the file of features of a slide: equal for equal slides, features and windows, wherever and by whom made."""
    kind = data_sha256([asdict(key), model.mpp, model.window_px])
    return f"{slide[:16]}-{key.level}-{kind[:12]}{SUFFIX}"
