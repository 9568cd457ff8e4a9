"""Boundary refinement with the same fully connected CRF as pydensecrf, made of a few convolutions.

The kernel that follows colours is a product of a Gaussian of place and a Gaussian of colour. The second is replaced by
its Nyström approximation on a few landmark colours (Williams and Seeger, NIPS 2000): k(c, c') ≈ φ(c)·φ(c'). Then

    Σ_q k(p, q) v(q)  ≈  Σ_m φ_m(p) · [ Gaussian blur of φ_m v ](p),

and the blur, much wider than a cell, is taken from sums over blocks of cells. What the landmarks miss of a colour's
likeness to itself is given back to the cell alone, so a rare colour keeps its own label rather than lose all weight.
Landmarks are chosen once a slide: the same place gets the same result in whatever tile it is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dualproto_wsi.model.dense_crf import PROBABILITY_FLOOR
from dualproto_wsi.settings import CrfParameters

LANDMARKS = 16

_BINS = 64  # a channel; colours nearer than that are one to the choice of landmarks
_ROUNDS = 20  # of k-means
_REACH = 3.0  # sigmas at which the Gaussian of place is cut
_BLOCK = 1.25  # blocks are at most sigma / this wide
_LEAST_EIGENVALUE = 1e-4  # of the landmarks' kernel matrix, whose largest is above 1; keeps float32 stable
_LEAST_SUM = 1e-3  # of a row of the kernel matrix: about 1 at least, but for the error of the approximation


def choose_landmarks(colours: NDArray[np.uint8], count: int = LANDMARKS, seed: int = 0) -> NDArray[np.float32]:
    """Choose the colours that stand for all colours of a slide: k-means on the histogram, the same at every run.

    Parameters
    ----------
    colours : ndarray of uint8, shape (n, 3)
        Colours of the slide's tissue, e.g. of its thumbnail; in any order.
    count : int
        How many landmarks at most.
    seed : int
        Of the start of k-means.

    Returns
    -------
    ndarray of float32, shape (m, 3)
        RGB, 0…255; fewer than `count` where there are fewer different colours, none for none.
    """
    step = 256 // _BINS
    codes = (colours // step).astype(np.int64) @ np.array([_BINS**2, _BINS, 1])
    codes, pixels = np.unique(codes, return_counts=True)
    bins = (np.stack([codes // _BINS**2, codes // _BINS % _BINS, codes % _BINS], axis=1) + 0.5) * step
    if len(bins) <= count:
        return bins.astype(np.float32)
    generator = np.random.default_rng(seed)
    centres = bins[[int(pixels.argmax())]]
    while len(centres) < count:  # k-means++
        share = pixels * _squared_distances(bins, centres).min(axis=1)
        centres = np.vstack([centres, bins[generator.choice(len(bins), p=share / share.sum())]])
    for _ in range(_ROUNDS):
        nearest = _squared_distances(bins, centres).argmin(axis=1)
        weight = np.bincount(nearest, pixels, count)
        sums = np.stack([np.bincount(nearest, pixels * channel, count) for channel in bins.T], axis=1)
        centres = np.where(weight[:, None] > 0, sums / np.maximum(weight, 1)[:, None], centres)
    return centres.astype(np.float32)


def _squared_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(((a[:, None] - b[None]) ** 2).sum(axis=2))


class MeanField:
    """The CRF of :class:`CrfParameters` on CPU or GPU.

    Parameters
    ----------
    parameters : CrfParameters
    stride_px : int
        Side of a cell, model px.
    landmarks : ndarray of float32, shape (m, 3)
        See :func:`choose_landmarks`; m ≥ 1.
    device : torch.device
        Where it runs.

    Raises
    ------
    ValueError
        If there is no landmark.
    """

    def __init__(
        self, parameters: CrfParameters, stride_px: int, landmarks: NDArray[np.float32], device: torch.device
    ) -> None:
        if landmarks.ndim != 2 or landmarks.shape[1] != 3 or not len(landmarks):
            raise ValueError(f"landmarks have the shape {landmarks.shape}; give (m, 3), at least one")
        self.parameters, self.device = parameters, device
        self._sigma = parameters.gaussian_sxy_px / stride_px
        self._kernels = [k.to(device) for k in _block_kernels(parameters.bilateral_sxy_px / stride_px)]
        self._landmarks = torch.from_numpy(landmarks).to(device)
        own = _likeness(self._landmarks.double(), self._landmarks.double(), parameters.bilateral_srgb)
        values, vectors = torch.linalg.eigh(own)
        self._whitening = (vectors * values.clamp_min(_LEAST_EIGENVALUE).rsqrt()).float()

    @torch.inference_mode()
    def refine(
        self,
        probabilities: NDArray[np.float32],
        analysed: NDArray[np.bool_],
        colours: NDArray[np.uint8],
        origin: tuple[int, int] = (0, 0),
    ) -> NDArray[np.float32]:
        """Refine one tile; see :meth:`~dualproto_wsi.model.dense_crf.Refiner.refine`."""
        given = self.parameters
        scores, mask, rgb = (
            torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
            for array in (probabilities, analysed, colours)
        )
        pulls: list[tuple[float, Callable[[Tensor], Tensor]]] = []
        if given.gaussian_compat:
            pulls.append((given.gaussian_compat, _NearKernel(mask, self._sigma)))
        if given.bilateral_compat:
            likeness = _likeness(rgb.view(-1, 3).float(), self._landmarks, given.bilateral_srgb)
            features = (likeness @ self._whitening).T.reshape(-1, *mask.shape)
            pulls.append((given.bilateral_compat, _AlikeKernel(mask, features, self._kernels, origin)))
        unary = scores.clamp_min(PROBABILITY_FLOOR).log()
        marginals = unary.softmax(0)
        for _ in range(given.iterations):
            total = unary
            for compat, pull in pulls:
                total = total + compat * pull(marginals)
            marginals = total.softmax(0)
        refined: NDArray[np.float32] = torch.where(mask, marginals, scores).cpu().numpy()
        return refined


class _NearKernel:
    """Kernel of place, normalised symmetrically over the analysed cells; a whole tile is small enough to be exact.

    Parameters
    ----------
    mask : Tensor of bool, shape (h, w)
        The analysed cells.
    sigma : float
        Cells.
    """

    def __init__(self, mask: Tensor, sigma: float) -> None:
        self._down, self._across = (_gaussian_matrix(side, sigma, mask.device) for side in mask.shape)
        self._norm = _inverse_root(self._sum(mask.float()), mask)

    def __call__(self, values: Tensor) -> Tensor:
        """Return the normalised sums over all cells, (K, h, w) as `values`; 0 where not analysed."""
        return self._norm * self._sum(self._norm * values)

    def _sum(self, values: Tensor) -> Tensor:
        return self._down @ values @ self._across


class _AlikeKernel:
    """Kernel of place and colour, normalised symmetrically over the analysed cells.

    Cells are held by their place in their block, (block², C, rows of blocks, columns of blocks): sums over a block are
    sums over the first axis, and a blur is one convolution of the blocks for each place in a block.

    Parameters
    ----------
    mask : Tensor of bool, shape (h, w)
        The analysed cells.
    features : Tensor of float32, shape (m, h, w)
        φ of each cell's colour.
    kernels : list of Tensor of float32, shape (k, k)
        See :func:`_block_kernels`.
    origin : tuple of int
        (row, column) of the first cell in the slide's grid: blocks lie on the grid's multiples of their side.
    """

    def __init__(self, mask: Tensor, features: Tensor, kernels: list[Tensor], origin: tuple[int, int]) -> None:
        self._kernels, self._block = kernels, math.isqrt(len(kernels))
        self._shape, (self._above, self._left) = mask.shape, (first % self._block for first in origin)
        self._features = self._fold(features * mask)
        inside = self._fold(mask[None].float())
        self._missed = (inside - self._features.square().sum(1, keepdim=True)).clamp_min(0)
        self._norm = _inverse_root(self._sum(inside), inside > 0)

    def __call__(self, values: Tensor) -> Tensor:
        """Return the normalised sums over all cells, (K, h, w) as `values`; 0 where not analysed."""
        sums = self._norm * self._sum(self._norm * self._fold(values))
        planes = F.pixel_shuffle(sums.transpose(0, 1).flatten(0, 1), self._block)
        height, width = self._shape
        return planes[:, self._above : self._above + height, self._left : self._left + width]

    def _fold(self, planes: Tensor) -> Tensor:
        """Return (block², C, rows of blocks, columns of blocks) for (C, h, w); zeros fill the blocks at the rim."""
        height, width = self._shape
        below, right = -(self._above + height) % self._block, -(self._left + width) % self._block
        folded = F.pixel_unshuffle(F.pad(planes, (self._left, right, self._above, below)), self._block)
        return folded.view(len(planes), -1, *folded.shape[1:]).transpose(0, 1).contiguous()

    def _sum(self, values: Tensor) -> Tensor:
        summed = values[0, :, None] * self._features[0]
        for value, feature in zip(values[1:], self._features[1:], strict=True):
            summed.addcmul_(value[:, None], feature)
        planes = summed.flatten(0, 1)
        sums = self._missed * values
        for out, kernel, feature in zip(sums, self._kernels, self._features, strict=True):
            weight = kernel.expand(len(planes), 1, -1, -1)
            blurred = F.conv2d(planes[None], weight, padding=len(kernel) // 2, groups=len(planes))
            out += (blurred.view_as(summed) * feature).sum(1)
        return sums


def _likeness(colours: Tensor, landmarks: Tensor, sigma: float) -> Tensor:
    """Return the Gaussian of the distance of each colour (n, 3) to each landmark (m, 3), (n, m)."""
    return (
        torch.cdist(colours, landmarks, compute_mode="donot_use_mm_for_euclid_dist").square() / (-2 * sigma**2)
    ).exp()


def _inverse_root(sums: Tensor, mask: Tensor) -> Tensor:
    """Return 1 / √sum where the mask is set and 0 elsewhere; a cell's own share makes its sum 1 at least."""
    return torch.where(mask, sums.clamp_min(_LEAST_SUM).rsqrt(), torch.zeros_like(sums))


def _gaussian_matrix(side: int, sigma: float, device: torch.device) -> Tensor:
    """Return the Gaussian of the distance between all cells of a line, (side, side); 1 for a cell and itself."""
    places = torch.arange(side, dtype=torch.float32, device=device)
    return ((places[:, None] - places).square() / (-2 * sigma**2)).exp()


def _block_kernels(sigma: float) -> list[Tensor]:
    """Return the kernels that turn sums over blocks into a Gaussian blur at each place of a block.

    Parameters
    ----------
    sigma : float
        Of the blur, cells.

    Returns
    -------
    list of Tensor of float32, shape (k, k)
        One for each place in a block, row by row: block² of them; a block is the largest power of two wide that is well
        below sigma. The Gaussian is made narrower by what summing over a block widens it.
    """
    block = 2 ** max(0, math.floor(math.log2(sigma / _BLOCK)))
    reach = math.ceil(_REACH * sigma / block)
    variance = sigma**2 - (block**2 - 1) / 12
    centres = torch.arange(-reach, reach + 1) * block + (block - 1) / 2
    sides = [
        (sigma / math.sqrt(variance)) * ((centres - place).square() / (-2 * variance)).exp() for place in range(block)
    ]
    return [torch.outer(down, across) for down in sides for across in sides]
