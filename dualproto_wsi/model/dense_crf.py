"""Boundary refinement with a fully connected CRF, as pydensecrf computes it.

The model of Krähenbühl and Koltun (NIPS 2011): cells that are near each other, or near and of like colour, pull each
other's label. Three things differ from calling pydensecrf on an image:

- Distances are given in model px, and a cell is several of them wide.
- Cells that are not analysed are no nodes of the graph at all, so glass pulls no label.
- pydensecrf sums over a lattice that is tied to the origin of the image, so a tile of its own gets other labels along
  its whole area (0.5 % of them). Here places are counted from the origin of the slide, less whole periods of the
  lattice: tiles with a halo then agree with the whole.
"""

from __future__ import annotations

import importlib.util
import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.errors import MissingDependency
from dualproto_wsi.settings import CrfParameters

PROBABILITY_FLOOR = 1e-5
"""Smallest probability that an energy is made of, as in pydensecrf."""

_PERIODS = np.array([[math.sqrt(3)], [3.0]])
"""Shifts of the first and the second feature, in sigmas, that map the permutohedral lattice onto itself."""


class Refiner(Protocol):
    """Moves the borders between classes to the edges seen in a picture."""

    def refine(
        self,
        probabilities: NDArray[np.float32],
        analysed: NDArray[np.bool_],
        colours: NDArray[np.uint8],
        origin: tuple[int, int] = (0, 0),
    ) -> NDArray[np.float32]:
        """Refine one tile of a score map.

        Parameters
        ----------
        probabilities : ndarray of float32, shape (K, rows, columns)
            Sum to 1 over the first axis.
        analysed : ndarray of bool, shape (rows, columns)
            The cells that count; the others pull no label and keep their probabilities.
        colours : ndarray of uint8, shape (rows, columns, 3)
            Mean colour of each cell, RGB.
        origin : tuple of int
            (row, column) of the first cell in the slide's grid; tiles of one grid then agree where they overlap.

        Returns
        -------
        ndarray of float32, shape (K, rows, columns)
            Marginals of the mean field. They sum to 1, too, but are sharper than calibrated probabilities.
        """


class DenseCrf:
    """pydensecrf on the analysed cells of a tile; holds the GIL, so run it in processes.

    Importing this module and unpickling an object of it is quick: a new worker process needs neither torch nor a model.

    Parameters
    ----------
    parameters : CrfParameters
    stride_px : int
        Side of a cell, model px.

    Raises
    ------
    MissingDependency
        If pydensecrf is not installed.
    """

    def __init__(self, parameters: CrfParameters, stride_px: int) -> None:
        if importlib.util.find_spec("pydensecrf") is None:
            raise MissingDependency(
                "--refine crf needs the package pydensecrf2; pip install 'dualproto-wsi[crf]' (needs a C++ compiler), "
                "or use --refine fast, which needs nothing"
            )
        self.parameters, self.stride_px = parameters, stride_px

    def refine(
        self,
        probabilities: NDArray[np.float32],
        analysed: NDArray[np.bool_],
        colours: NDArray[np.uint8],
        origin: tuple[int, int] = (0, 0),
    ) -> NDArray[np.float32]:
        """Refine one tile; see :meth:`Refiner.refine`."""
        from pydensecrf.densecrf import DIAG_KERNEL, NORMALIZE_SYMMETRIC, DenseCRF

        given = self.parameters
        refined = probabilities.copy()
        if not analysed.any():
            return refined
        crf = DenseCRF(np.count_nonzero(analysed), len(probabilities))
        unary = -np.log(np.maximum(probabilities[:, analysed], PROBABILITY_FLOOR))
        crf.setUnaryEnergy(np.ascontiguousarray(unary, np.float32))
        near = self._places(analysed, origin, given.gaussian_sxy_px)
        alike = self._places(analysed, origin, given.bilateral_sxy_px)
        alike = np.concatenate([alike, colours[analysed].T / given.bilateral_srgb])
        for features, compat in ((near, given.gaussian_compat), (alike, given.bilateral_compat)):
            if compat:
                rows = np.ascontiguousarray(features, np.float32)
                crf.addPairwiseEnergy(rows, compat, DIAG_KERNEL, NORMALIZE_SYMMETRIC)
        refined[:, analysed] = np.array(crf.inference(given.iterations))
        return refined

    def _places(self, analysed: NDArray[np.bool_], origin: tuple[int, int], sxy_px: float) -> NDArray[np.float64]:
        """Return (row, column) of the analysed cells in sigmas, float64 (2, n), from the lattice's origin."""
        cell = self.stride_px / sxy_px
        first = np.array(origin)[:, None] * cell
        return np.asarray(np.stack(np.nonzero(analysed)) * cell + first % _PERIODS)


def refine_core(
    refiner: Refiner,
    probabilities: NDArray[np.float32],
    analysed: NDArray[np.bool_],
    colours: NDArray[np.uint8],
    origin: tuple[int, int],
    core: tuple[slice, slice],
) -> NDArray[np.float32]:
    """Refine a tile with its halo and return its core alone; stands here so that workers import no torch for it."""
    return refiner.refine(probabilities, analysed, colours, origin)[:, *core].copy()
