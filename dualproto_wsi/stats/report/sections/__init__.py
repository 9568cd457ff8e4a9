"""The parts of the report, in the order of :mod:`dualproto_wsi.stats.report.page`."""
