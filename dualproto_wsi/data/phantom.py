"""A phantom: made-up tissue whose masks are known, to see whether image-level labels alone find them.

Four classes differ by the size, shape, density and depth of their nuclei and by the grain of their ground, as tumor,
stroma, lymphocytes and necrosis do on H&E. Colour alone tells little: amounts of both stains vary more from image to
image than from class to class. Each image shows one to three classes in random regions with smooth borders. Stroma is
in nine of ten images and tumor in most, lymphocytes and necrosis are seldom: what comes together, and how often,
misleads whoever only asks which classes an image holds.

The images lie in the layout ``bcss-wsss``, at 0.5 µm/px; its masks are never needed for training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dualproto_wsi.data.layouts.wsss import BCSS_WSSS
from dualproto_wsi.errors import SettingsError

CLASSES = BCSS_WSSS.classes
MPP = 0.5

# Optical densities of haematoxylin and eosin (Ruifrok & Johnston, 2001).
_HAEMATOXYLIN, _EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])
_PALETTE = (255, 0, 0, 0, 255, 0, 0, 0, 255, 153, 0, 255, 255, 255, 255)
_STROMA, _STROMA_SHARE = 1, 0.9
_OTHERS = {0: 0.6, 2: 0.2, 3: 0.2}  # how often each of the other classes is drawn
_BORDER_PX = 19  # sigma of the fields whose largest says which class is where
_LEAST_SHARE = 0.03  # of an image; less of a class is drawn anew, so that labels are beyond doubt


@dataclass(frozen=True, slots=True)
class Texture:
    """How a kind of tissue looks; lengths in px.

    Parameters
    ----------
    spacing : float
        Between nuclei.
    radius : float
        Of a nucleus, mean of both axes.
    stretch : float
        Long axis by short axis.
    depth : float
        Optical density of a nucleus.
    eosin : float
        Optical density of the ground.
    grain : float
        Sigma of what varies in the ground; along fibres where nuclei are stretched.
    contrast : float
        Standard deviation of the ground's optical density.
    """

    spacing: float
    radius: float
    stretch: float
    depth: float
    eosin: float
    grain: float
    contrast: float


# Two kinds a class, as tissue of one class never looks all the same; in order of CLASSES.
TEXTURES = (
    (Texture(17, 5.6, 1.3, 0.62, 0.34, 3.0, 0.05), Texture(14, 4.9, 1.5, 0.85, 0.40, 2.0, 0.06)),
    (Texture(25, 3.4, 4.0, 0.80, 0.42, 1.6, 0.11), Texture(34, 2.8, 3.0, 0.70, 0.36, 3.5, 0.10)),
    (Texture(9.5, 3.1, 1.1, 0.95, 0.30, 2.0, 0.04), Texture(12, 3.4, 1.2, 0.85, 0.38, 3.0, 0.06)),
    (Texture(8.0, 1.2, 1.3, 0.75, 0.46, 1.0, 0.09), Texture(12, 1.7, 1.2, 0.60, 0.42, 0.8, 0.12)),
)


def write_phantom(folder: Path, train: int = 72, val: int = 16, test: int = 24, side: int = 224, seed: int = 0) -> None:
    """Write a phantom in the layout ``bcss-wsss``: ``train/`` with labels in the names, ``{val,test}/{img,mask}``.

    Parameters
    ----------
    folder : Path
        Made if missing; files of the same names are replaced.
    train, val, test : int
        Numbers of images, each of a patient of its own.
    side : int
        Of an image, px.
    seed : int
        The same seed gives the same images.

    Raises
    ------
    SettingsError
        If a number is below 1 or the side below 64.
    """
    for name, value, least in (("train", train, 1), ("val", val, 1), ("test", test, 1), ("side", side, 64)):
        if value < least:
            raise SettingsError(f"{name} is {value}; it must be at least {least}")
    for part in ("train", "val/img", "val/mask", "test/img", "test/mask"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(train + val + test):
        pixels, mask = draw_phantom(np.random.default_rng((seed, number)), side)
        name, picture = f"phantom-{number:03}+0", Image.fromarray(pixels)
        if number < train:
            digits = "".join(str(int((mask == at).any())) for at in range(len(CLASSES)))
            picture.save(folder / "train" / f"{name}[{digits}].png")
            continue
        split = folder / ("val" if number < train + val else "test")
        picture.save(split / "img" / f"{name}.png")
        truth = Image.fromarray(mask)
        truth.putpalette(_PALETTE)
        truth.save(split / "mask" / f"{name}.png")


def draw_phantom(rng: np.random.Generator, side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw an image and its mask.

    Parameters
    ----------
    rng : numpy.random.Generator
    side : int
        Of the image, px.

    Returns
    -------
    pixels : ndarray of uint8, shape (side, side, 3)
        RGB.
    mask : ndarray of uint8, shape (side, side)
        Classes 0…3, in order of :data:`CLASSES`.
    """
    mask = _regions(rng, _present(rng), side)
    kinds = _smooth(rng, side, 2.5 * _BORDER_PX) > 0
    haematoxylin, eosin = np.zeros((side, side)), np.zeros((side, side))
    flow = _smooth(rng, side, 2.5 * _BORDER_PX) * 90 / 2  # degrees; which way fibres and stretched nuclei run
    for at in np.unique(mask):
        for kind, texture in enumerate(TEXTURES[at]):
            here = (mask == at) & (kinds == bool(kind))
            if here.any():
                nuclei = _nuclei(rng, texture, here, flow)
                eosin[here] = _ground(rng, texture, side, float(flow[here].mean()))[here]
                haematoxylin = np.maximum(haematoxylin, nuclei)
    eosin = cv2.GaussianBlur(eosin, (0, 0), 1.0)
    amount = rng.uniform(0.75, 1.3, 2)  # stains differ from slide to slide
    haematoxylin = amount[0] * (cv2.GaussianBlur(haematoxylin, (0, 0), 0.7) + rng.uniform(0.02, 0.14))
    density = haematoxylin[..., None] * _HAEMATOXYLIN + amount[1] * eosin[..., None] * _EOSIN
    noise = rng.normal(0, 0.012, (side, side, 3))
    return np.clip(255 * np.exp(-(density + noise)), 0, 255).astype(np.uint8), mask


def _present(rng: np.random.Generator) -> list[int]:
    count = int(rng.choice([1, 2, 3], p=[0.08, 0.42, 0.5]))
    stroma = [_STROMA] if rng.random() < _STROMA_SHARE else []
    others = rng.choice(list(_OTHERS), count - len(stroma), replace=False, p=list(_OTHERS.values()))
    return [*stroma, *others.tolist()]


def _regions(rng: np.random.Generator, present: Sequence[int], side: int) -> NDArray[np.uint8]:
    while True:
        fields = np.stack([_smooth(rng, side, _BORDER_PX) for _ in present])
        mask: NDArray[np.uint8] = np.array(present, np.uint8)[fields.argmax(0)]
        if all((mask == at).mean() >= _LEAST_SHARE for at in present):
            return mask


def _smooth(rng: np.random.Generator, side: int, sigma: float) -> NDArray[np.float64]:
    """Return smooth noise of mean 0 and standard deviation about 1."""
    shrink = max(1, int(sigma / 4))  # what is this smooth can be made small and enlarged
    rough = rng.normal(size=(side // shrink + 2, side // shrink + 2))
    noise = cv2.GaussianBlur(rough, (0, 0), sigma / shrink, borderType=cv2.BORDER_REFLECT)
    noise *= 2 * np.sqrt(np.pi) * sigma / shrink
    if shrink > 1:
        noise = cv2.resize(noise, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_CUBIC)
    return np.asarray(noise[:side, :side])


def _nuclei(
    rng: np.random.Generator, texture: Texture, here: NDArray[np.bool_], flow: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Draw nuclei whose centres lie in a region; one a square of a grid, somewhere in it."""
    side = len(here)
    drawn = np.zeros(here.shape)
    count = int(side / texture.spacing) + 2
    grid = np.indices((count, count)).reshape(2, -1).T
    places = (grid + rng.uniform(-0.45, 0.45, grid.shape)) * texture.spacing
    inside = (places >= 0).all(1) & (places < side - 0.5).all(1)
    for y, x in places[inside]:
        row, column = int(y), int(x)
        if not here[row, column]:
            continue
        radius, stretch = texture.radius * rng.uniform(0.75, 1.25), np.sqrt(texture.stretch * rng.uniform(0.8, 1.2))
        angle = flow[row, column] + rng.normal(0, 15 if texture.stretch > 2 else 90)
        axes = (int(radius * stretch * 16), max(8, int(radius / stretch * 16)))
        centre = (int(x * 16), int(y * 16))
        cv2.ellipse(drawn, centre, axes, angle, 0, 360, texture.depth * rng.uniform(0.75, 1.15), -1, cv2.LINE_8, 4)
    return drawn


def _ground(rng: np.random.Generator, texture: Texture, side: int, angle: float) -> NDArray[np.float64]:
    noise = _smooth(rng, side, texture.grain)
    if texture.stretch > 2:  # fibres: drawn out along the flow
        reach = 15
        line = np.zeros((2 * reach + 1, 2 * reach + 1))
        end = reach * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        middle = np.array([reach, reach])
        cv2.line(line, tuple((middle - end).astype(int).tolist()), tuple((middle + end).astype(int).tolist()), 1.0)
        noise = cv2.filter2D(noise, -1, line / line.sum())
        noise /= noise.std()
    return texture.eosin + texture.contrast * noise
