"""The whole report: sections in the order in which one should read them, in one file that asks nothing of a network."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from dualproto_wsi.stats.cohort.model import Cohort
from dualproto_wsi.stats.report.cases import groups_of
from dualproto_wsi.stats.report.charts.patterns import definitions
from dualproto_wsi.stats.report.markup import Html, join, tag
from dualproto_wsi.stats.report.sections import (
    composition,
    dictionary,
    distributions,
    gallery,
    listing,
    quality,
    summary,
    survival,
)
from dualproto_wsi.stats.report.sections.gallery import Overlays


def render_report(cohort: Cohort, overlays: Overlays | None = None) -> str:
    """Return a cohort as one HTML file that opens offline.

    The file loads nothing: style, script, charts and thumbnails are in it, and its content security policy lets no
    other script or style run, whatever names of slides hold. It reads the same without scripts; only sorting and
    filtering are lost.

    Parameters
    ----------
    cohort : Cohort
        Shares of classes are ``<class>_fraction``, or ``<class>_mm2`` by ``analysed_mm2``.
    overlays : callable, optional
        Gives the overlay's picture file (PNG, JPEG) of a slide, or None; called by several threads at once. Pictures
        are embedded at most 320 px large,
        and not at all for more than 300 slides. Without it the gallery is a list of links.

    Returns
    -------
    str
        HTML; to be written as UTF-8 into the folder that the slides' file paths are relative to.
    """
    style, script = _asset("report.css"), _asset("report.js")
    sections = _sections(cohort, overlays)
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#content", class_="skip"),
        definitions(cohort.classes),
        _header(cohort),
        _navigation([(ident, title) for ident, title, _ in sections]),
        tag("main", [_section(*section) for section in sections], id="content", tabindex=-1),
        tag("footer", tag("p", "Made by dualproto-wsi. For research, not for diagnosis.")),
        tag("script", script),
    )
    return "<!DOCTYPE html>\n" + tag("html", _head(cohort.title, style, script), body, lang="en") + "\n"


def _asset(name: str) -> Html:
    return Html(files("dualproto_wsi.stats.report").joinpath("assets", name).read_text(encoding="utf-8"))


def _head(title: str, style: Html, script: Html) -> Html:
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    )
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", style),
    )


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def _header(cohort: Cohort) -> Html:
    about = f"Tissue areas of whole slides, mapped by {cohort.model}. Report of " if cohort.model else "Report of "
    date = tag("time", cohort.created[:16].replace("T", " "), datetime=cohort.created)
    return tag(
        "header",
        tag("h1", cohort.title),
        tag("p", about, date, "."),
        tag("p", "For research. Not for diagnosis.", class_="limit"),
    )


def _navigation(entries: list[tuple[str, str]]) -> Html:
    links = [tag("li", tag("a", title, href=f"#{ident}")) for ident, title in entries]
    return tag("nav", tag("ul", links), aria_label="Sections")


def _section(ident: str, title: str, content: Html) -> Html:
    return tag("section", tag("h2", title, id=f"{ident}-title"), content, id=ident, aria_labelledby=f"{ident}-title")


def _sections(cohort: Cohort, overlays: Overlays | None) -> list[tuple[str, str, Html]]:
    found: list[tuple[str, str, Html | None]] = [
        ("summary", "Summary", summary.render(cohort)),
        ("quality", "Quality control", quality.render(cohort)),
        ("composition", "Composition", composition.render(cohort)),
        ("distributions", "Distributions", distributions.render_all(cohort)),
        ("groups", "Groups", distributions.render_groups(cohort) if groups_of(cohort) else None),
        ("survival", "Survival", survival.render(cohort.survival) if cohort.survival else None),
        ("gallery", "Overlays", gallery.render(cohort, overlays)),
        ("slides", "Slides", listing.render_slides(cohort)),
        ("patients", "Patients", listing.render_patients(cohort) if cohort.patients else None),
        ("dictionary", "Data dictionary", dictionary.render_dictionary(cohort)),
        ("notes", "Notes and limits", dictionary.render_notes(cohort)),
    ]
    return [(ident, title, join(content)) for ident, title, content in found if content is not None]
