"""Overlays made small enough to travel inside the report."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

SIDE = 320
"""Longer side of a thumbnail, px."""

QUALITY = 72
"""Of the JPEG: about 20 kB a thumbnail, 5 MB for 200 slides."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture as the report holds it.

    Parameters
    ----------
    address : str
        ``data:image/jpeg;base64,…``.
    width, height : int
        Pixels.
    """

    address: str
    width: int
    height: int


def thumbnail(picture: bytes) -> Thumbnail | None:
    """Return a picture file, at most :data:`SIDE` px on a side, as a JPEG in a data address.

    Parameters
    ----------
    picture : bytes
        A PNG, JPEG or any other file that Pillow reads; what is transparent becomes white.

    Returns
    -------
    Thumbnail or None
        None where the file is no picture, is damaged, or is far larger than an overlay is.
    """
    try:
        with Image.open(io.BytesIO(picture)) as image:
            small = image if image.mode == "RGB" and not image.has_transparency_data else _opaque(image)
            small.thumbnail((SIDE, SIDE))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    file = io.BytesIO()
    small.save(file, "JPEG", quality=QUALITY, optimize=True)
    address = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    return Thumbnail(address, small.width, small.height)


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    paper = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
