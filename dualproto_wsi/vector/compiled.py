"""How the kernels of this part are compiled."""

from dualproto_wsi.compiled import compiled

__all__ = ["compiled"]
