"""The report as a document: order, honesty about what is missing, escaping, and nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from dualproto_wsi.stats.cohort.model import Cohort, CohortSlide, Flag
from dualproto_wsi.stats.report import render_report
from dualproto_wsi.stats.report.cases import cases_of, composition, groups_of, plotted_measures
from dualproto_wsi.stats.report.markup import VOID
from dualproto_wsi.stats.report.pictures import SIDE, thumbnail
from dualproto_wsi.stats.report.sections import gallery
from dualproto_wsi.stats.report.sections.quality import all_flags
from dualproto_wsi.stats.report.sections.summary import sentences

MakeCohort = Callable[..., Cohort]

NASTY = "<script>alert('x')</script>\"'><img src=http://evil.example/x onerror=alert(1)>"


class _Document(HTMLParser):
    """Elements with attributes and text, and a check that every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open[-1]][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.parametrize("n", [0, 1, 12])
def test_sections_come_in_order_and_links_lead_somewhere(make_cohort: MakeCohort, n: int) -> None:
    document = _Document(render_report(make_cohort(n)))
    wanted = ["summary", "quality", "composition", "distributions", "groups", "survival", "gallery", "slides"]
    wanted += ["patients", "dictionary", "notes"]
    missing = {0: {"groups", "survival", "patients"}, 1: {"survival"}, 12: set()}[n]
    assert [s["id"] for s in document.all("section")] == [name for name in wanted if name not in missing]
    ids = [a["id"] for _, a in document.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    inner = {str(a["href"])[1:] for a in document.all("a") if str(a["href"]).startswith("#")}
    assert inner <= set(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", render_report(make_cohort(n)))) <= set(ids)
    levels = [int(name[1]) for name, _ in document.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_every_table_has_a_caption_and_scopes(make_cohort: MakeCohort) -> None:
    document = _Document(render_report(make_cohort(12)))
    assert len(document.all("caption")) == len(document.all("table"))
    assert all(th.get("scope") in ("col", "row") for th in document.all("th"))
    boxes = [div for div in document.all("div") if "scroll" in str(div.get("class"))]
    assert len(boxes) == len(document.all("table"))
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)
    pictures = [svg for svg in document.all("svg") if svg.get("aria-hidden") != "true"]
    assert pictures
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in pictures)


def test_nothing_comes_from_outside(make_cohort: MakeCohort, overlay: bytes) -> None:
    text = render_report(make_cohort(12), lambda slide: overlay)
    document = _Document(text)
    loaded = [a.get("src") for _, a in document.elements if "src" in a]
    assert len(loaded) == sum(slide.status == "done" for slide in make_cohort(12).slides)
    assert all(str(src).startswith("data:image/jpeg;base64,") for src in loaded)
    assert [link["href"] for link in document.all("link")] == ["data:,"]
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_policy_allows_this_script_and_style_alone(make_cohort: MakeCohort) -> None:
    text = render_report(make_cohort(1))
    document = _Document(text)
    (policy,) = [m["content"] for m in document.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    for name in ("script", "style"):
        (content,) = re.findall(f"<{name}>(.*?)</{name}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in str(policy)
    assert "default-src 'none'" in str(policy)
    assert "unsafe" not in str(policy)
    assert not any(name.startswith("on") or name == "style" for _, a in document.elements for name in a)


def test_names_of_users_are_only_text(make_cohort: MakeCohort) -> None:
    cohort = make_cohort(12, groups=("a", NASTY))
    slides = tuple(
        replace(s, name=NASTY, patient=NASTY, about={NASTY: NASTY}, error=NASTY, files={NASTY: f"javascript:{NASTY}"})
        for s in cohort.slides
    )
    measures = tuple(replace(m, title=NASTY, definition=NASTY, formula=NASTY, source=NASTY) for m in cohort.measures)
    text = render_report(
        replace(
            cohort, title=NASTY, model=NASTY, created=NASTY, by=NASTY, slides=slides, measures=measures, notes=(NASTY,),
            classes=tuple((f"{NASTY}{i}", colour) for i, (_, colour) in enumerate(cohort.classes)),
            flags=(Flag("k0", NASTY, "error", NASTY), Flag("?", NASTY, NASTY, NASTY)),
            patients=tuple(replace(p, patient=NASTY, about={NASTY: NASTY}) for p in cohort.patients),
        )
    )  # fmt: skip
    document = _Document(text)
    assert len(document.all("script")) == 1
    assert not document.all("img")
    assert not [a for _, a in document.elements if any(name.startswith("on") for name in a)]
    assert all(str(a["href"]).startswith(("#", "javascript%3A", "https://doi.org/")) for a in document.all("a"))
    assert document.texts["h1"] == [NASTY]


def test_summary_in_words(make_cohort: MakeCohort) -> None:
    first, second, third = sentences(make_cohort(12))
    assert first == (
        "12 slides and 7 patients. Of the slides, analysed: 10, empty: 1, failed: 1. "
        "Quality control found 1 slide with errors and 2 slides with warnings."
    )
    assert re.fullmatch(
        r"The analysed tissue of a typical patient is 0\.\d+ stroma, 0\.\d+ tumor and 0\.\d+ .*", second
    )
    assert third == (
        "3 measures compared between the groups of “her2”: 1 with an adjusted p below 0.05: tumor share of tissue "
        "(median 0.31 in HER2 0 and 0.52 in HER2 low; adjusted p 0.012)."
    )
    lost = replace(make_cohort(12), patients=make_cohort(12).patients[:-1])
    assert "failed: 1, of no known patient, so in no figure of patients: 1." in sentences(lost)[0]
    assert sentences(make_cohort(0)) == ["There are no slides in this cohort."]
    weak = make_cohort(12)
    weak = replace(weak, comparisons=tuple(replace(c, p_adjusted=0.4) for c in weak.comparisons))
    assert "no proof of equality" in sentences(weak)[-1]
    untested = replace(weak, comparisons=tuple(replace(c, p_adjusted=None) for c in weak.comparisons))
    assert "too few cases for a test" in sentences(untested)[-1]


def test_a_slide_that_is_not_done_is_always_flagged(make_cohort: MakeCohort) -> None:
    cohort = replace(make_cohort(12), flags=(Flag("k2", "outlier", "note", "Odd."), Flag("k1", "new", "error", "New.")))
    flags = all_flags(cohort)
    assert [(flag.slide, flag.kind, flag.severity) for flag in flags] == [
        ("k7", "failed", "error"), ("k1", "new", "error"), ("k11", "empty", "warning"), ("k2", "outlier", "note"),
    ]  # fmt: skip
    assert flags[0].text == "cannot be decoded: truncated at 12 MB"


def test_composition_is_of_fractions_or_of_areas(make_cohort: MakeCohort) -> None:
    cohort = make_cohort(1)
    both = {"tumor_fraction": 0.5, "stroma_fraction": 0.25, "lymphocyte_fraction": None}
    assert composition(cohort, both) == (0.5, 0.25, 0.0, 0.25)
    assert composition(cohort, {"analysed_mm2": 4.0, "tumor_mm2": 1.0, "stroma_mm2": 3.0}) == (0.25, 0.75, 0.0, 0.0)
    assert composition(cohort, {"analysed_mm2": 0.0, "tumor_mm2": 0.0}) is None
    taken = replace(cohort, classes=(("Tissue", (1, 2, 3)),))
    assert composition(taken, {"tissue_1_fraction": 0.75, "tissue_fraction": 0.1}) == (0.75, 0.25)


def test_cases_are_patients_or_slides_that_are_done(make_cohort: MakeCohort) -> None:
    cohort = make_cohort(12)
    assert {case.name for case in cases_of(cohort)} == {patient.patient for patient in cohort.patients}
    alone = replace(cohort, patients=(), by="")
    assert len(cases_of(alone)) == 10
    assert groups_of(alone) == []
    assert groups_of(cohort) == ["HER2 0", "HER2 low"]
    names = [measure.name for measure in plotted_measures(cohort, cases_of(cohort))]
    assert names[:3] == ["tumor_fraction", "tumor_stroma_ratio", "border_mm_per_mm2"]
    assert names[-3:] == ["tumor_mm2", "stroma_mm2", "lymphocyte_mm2"]
    assert "necrosis_fraction" not in names  # undefined in every case


def test_intervals_units_and_the_undefined_are_in_the_tables(make_cohort: MakeCohort) -> None:
    cohort = make_cohort(1, groups=())
    values = dict(cohort.slides[0].values) | {
        "tumor_fraction": 0.42, "tumor_fraction_low": 0.31, "tumor_fraction_high": 0.55, "analysed_mm2": 12345.6,
    }  # fmt: skip
    text = render_report(replace(cohort, slides=(replace(cohort.slides[0], values=values),)))
    slides = text[text.index('<section id="slides"') : text.index('<section id="patients"')]
    assert '<td class="n" data-v="0.42">0.42 (0.31 to 0.55)</td>' in slides
    assert "12\u202f300</td>" in slides
    assert "Analysed tissue (mm²)</th>" in slides
    assert '<td class="n extra"><span aria-hidden="true">–</span><span class="heard">not defined</span></td>' in slides
    assert slides.index("Necrosis share of tumor") > slides.index("tumor area (mm²)")  # defined nowhere: at the end
    assert 'href="https://doi.org/10.1155/2007/175276"' in text


def test_summaries_of_all_and_of_groups(make_cohort: MakeCohort) -> None:
    text = render_report(make_cohort(12))
    spread = text[text.index('<section id="distributions"') : text.index('<section id="groups"')]
    assert '<th scope="row">tumor share of tissue</th><td class="n" data-v="9.0">9</td>' in spread
    assert ">0.412 (0.305 to 0.533)</td>" in spread
    assert ">0.4 (0.3 to 0.5)</td>" in spread
    assert "Necrosis" not in spread  # no case has a value
    groups = text[text.index('<section id="groups"') : text.index('<section id="survival"')]
    assert "<td>HER2 low</td>" in groups


def test_one_case_is_no_distribution(make_cohort: MakeCohort) -> None:
    text = render_report(make_cohort(1))
    assert "There is one patient: its values are in the table below." in text
    assert "<circle" not in text[: text.index('<section id="groups"')]


def test_more_cases_than_names_have_room_become_columns(make_cohort: MakeCohort) -> None:
    few, many = render_report(make_cohort(12)), render_report(make_cohort(200))
    assert 'class="bars"' in few
    assert 'class="columns"' not in few
    assert 'class="bars"' not in many
    assert many.count('class="columns"') == 2


def test_cases_without_a_group_are_told(make_cohort: MakeCohort) -> None:
    cohort = make_cohort(12)
    patients = (replace(cohort.patients[0], group=""), *cohort.patients[1:])
    text = render_report(replace(cohort, patients=patients))
    assert "1 without a group are not in this section" in text
    assert "<h3>No group: 1 patient</h3>" in text


def test_pictures_are_small_and_damage_is_told(make_cohort: MakeCohort, overlay: bytes) -> None:
    found = thumbnail(overlay)
    assert found
    assert (found.width, found.height) == (320, 262)
    content = base64.b64decode(found.address.split(",")[1])
    assert len(content) < 40_000
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size) == ("JPEG", (320, 262))
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert abs(pixels[2, 2] - 244).max() < 6
    assert thumbnail(b"no picture") is None
    assert thumbnail(overlay[:5000]) is None
    text = render_report(make_cohort(12), lambda slide: b"no picture" if slide.key == "k0" else None)
    assert text.count("The picture cannot be read") == 1
    assert text.count(">No picture<") == 9
    assert "Failed: no picture" in text


def test_transparent_pictures_lie_on_white() -> None:
    file = io.BytesIO()
    Image.new("RGBA", (2000, 10), (255, 0, 0, 0)).save(file, "PNG")
    found = thumbnail(file.getvalue())
    assert found
    assert found.width == SIDE
    with Image.open(io.BytesIO(base64.b64decode(found.address.split(",")[1]))) as image:
        assert np.asarray(image).min() > 250


def test_too_many_pictures_stay_where_they_are(
    make_cohort: MakeCohort, overlay: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "EMBEDDED_AT_MOST", 11)
    asked: list[CohortSlide] = []

    def overlays(slide: CohortSlide) -> bytes:
        asked.append(slide)
        return overlay

    text = render_report(make_cohort(12), overlays)
    assert not asked
    assert "More than 11 slides" in text
    assert 'href="out/slide-000.svs/overlay.png"' in text
    assert "<img" not in text


def test_two_hundred_slides_are_quick_and_small(make_cohort: MakeCohort, overlay: bytes) -> None:
    cohort = make_cohort(200)
    began = time.process_time()
    text = render_report(cohort, lambda slide: overlay)
    took = time.process_time() - began
    assert len(text.encode()) < 10e6
    assert took < 10  # about 4 s; the machine may be busy


def test_the_same_cohort_gives_the_same_report(make_cohort: MakeCohort) -> None:
    assert render_report(make_cohort(12)) == render_report(make_cohort(12))
