"""Small regions join their neighbours; ``label_sieve.py`` is the way in, the rest are its kernels."""

from dualproto_wsi.vector.sieve.label_sieve import LabelSieve

__all__ = ["LabelSieve"]
