"""How kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile a function at its first call, without the GIL; the machine code is kept on disk for the next process.

    A caller's code on disk is not renewed when a kernel of another file changes, so kernels that call each other
    share a file.
    """
    return cast(F, numba.njit(cache=True, nogil=True)(function))
