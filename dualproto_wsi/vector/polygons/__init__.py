"""Label map → polygons that tile the plane exactly; ``tracer.py`` is the way in, the rest are its kernels."""

from dualproto_wsi.vector.polygons.tracer import MOST_CELLS, RegionTracer, TracedRegion

__all__ = ["MOST_CELLS", "RegionTracer", "TracedRegion"]
