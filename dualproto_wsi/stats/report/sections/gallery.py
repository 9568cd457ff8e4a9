"""The overlays, small, each with the way to its files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from dualproto_wsi.stats.cohort.model import Cohort, CohortSlide
from dualproto_wsi.stats.report.cases import ANALYSED, composition, slide_anchor
from dualproto_wsi.stats.report.charts.bars import shares_in_words
from dualproto_wsi.stats.report.charts.patterns import REST_NAME
from dualproto_wsi.stats.report.markup import Html, join, tag
from dualproto_wsi.stats.report.pictures import thumbnail
from dualproto_wsi.stats.report.sections.listing import file_links
from dualproto_wsi.stats.report.wording import count, finite, number, with_unit

Overlays = Callable[[CohortSlide], bytes | None]
"""Gives the picture file of a slide's overlay, or None where there is none; called by several threads at once."""

EMBEDDED_AT_MOST = 300
"""With more slides pictures stay where they are: 300 thumbnails are 8 MB."""


THREADS_AT_MOST = 8


def render(cohort: Cohort, overlays: Overlays | None) -> Html:
    """Return a grid of thumbnails in the order of the slides, or of links where there are too many."""
    slides = list(enumerate(cohort.slides))
    if not slides:
        return tag("p", "There are no slides to show.")
    embedded = overlays is not None and len(slides) <= EMBEDDED_AT_MOST
    reason = (
        f"More than {number(EMBEDDED_AT_MOST)} slides: the pictures are not in this file; the links lead to them."
        if overlays is not None
        else "The pictures are not in this file; the links lead to them."
    )
    flags = Counter(flag.slide for flag in cohort.flags)
    pictures = _pictures(cohort, overlays) if overlays is not None and embedded else [None] * len(slides)
    items = [_item(slide, index, pictures[index], flags[slide.key]) for index, slide in slides]
    return join(
        tag("p", "Regions on the slide's thumbnail. Links lead to files beside this report." if embedded else reason),
        tag("ul", items, class_="gallery" if embedded else "links"),
    )


def _item(slide: CohortSlide, index: int, picture: Html | None, flags: int) -> Html:
    about = [text for text in (slide.patient, slide.group) if text]
    area = finite(slide.values.get(ANALYSED))
    if slide.status != "done":
        about.append(slide.status)
    elif area is not None:
        about.append(with_unit(area, "mm²"))
    if flags:
        about.append(count(flags, "flag"))
    return tag(
        "li",
        picture,
        tag("a", slide.name, href=f"#{slide_anchor(index)}", class_="name"),
        tag("span", ", ".join(about), class_="small"),
        file_links(slide),
    )


def _pictures(cohort: Cohort, overlays: Overlays) -> list[Html]:
    # Nearly all of the report's time is spent in decoding, which runs without the interpreter's lock.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, THREADS_AT_MOST)) as pool:
        return list(pool.map(lambda slide: _picture(cohort, slide, overlays), cohort.slides))


def _picture(cohort: Cohort, slide: CohortSlide, overlays: Overlays) -> Html:
    data = overlays(slide) if slide.status == "done" else None
    small = thumbnail(data) if data else None
    if small is None:
        words = {"failed": "Failed: no picture", "empty": "No tissue: no picture"}
        text = words.get(slide.status, "The picture cannot be read" if data else "No picture")
        return tag("span", text, class_="absent")
    shares = composition(cohort, slide.values)
    told = f": {shares_in_words(_names(cohort), shares)}" if shares else ""
    return tag("img", src=small.address, alt=f"Overlay of {slide.name}{told}", width=small.width, height=small.height)


def _names(cohort: Cohort) -> Sequence[str]:
    return [*(name for name, _ in cohort.classes), REST_NAME]
