"""A cohort as one HTML file that opens anywhere, offline, and that anyone can read."""

from dualproto_wsi.stats.report.page import render_report

__all__ = ["render_report"]
