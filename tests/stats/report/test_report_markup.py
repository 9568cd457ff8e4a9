"""Escaping, addresses, and numbers as they are written."""

from __future__ import annotations

import html
import math
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualproto_wsi.stats.report.markup import Html, hidden, join, link_to, tag
from dualproto_wsi.stats.report.wording import (
    UNDEFINED,
    count,
    interval_text,
    listed,
    number,
    p_text,
    slug,
    titled,
    value_text,
    with_unit,
)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: dict[str, str | None] = {}
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes |= dict(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"))))
def test_any_text_comes_back_as_text_and_as_an_attribute(text: str) -> None:
    reader = _Reader()
    reader.feed(tag("p", text, title=text))
    reader.close()
    assert reader.names == ["p"]
    assert reader.attributes == {"title": text}
    assert reader.text == text


def test_elements_are_not_escaped_twice() -> None:
    assert tag("p", tag("b", "a & b"), None, ["<", Html("<i></i>")]) == "<p><b>a &amp; b</b>&lt;<i></i></p>"
    assert join("a", hidden("b")) == 'a<span class="heard">b</span>'


def test_attributes() -> None:
    assert tag("td", class_="n", data_v=None, hidden=True, stroke_width=1.5, x=2.0, open=False) == (
        '<td class="n" hidden stroke-width="1.5" x="2"></td>'
    )
    assert tag("meta", name="a") == '<meta name="a">'


def test_what_no_file_can_hold_is_replaced() -> None:
    assert tag("p", "a\x00b\udce9c") == "<p>a\ufffdb\ufffdc</p>"


@pytest.mark.parametrize(
    "path", ["javascript:alert(1)", "//evil.example/x", "https://evil.example", "a b/ü#1?.svs", "data:text/html,x"]
)
def test_a_path_stays_below_the_report(path: str) -> None:
    target = urljoin("file:///study/report.html", link_to(path))
    assert target.startswith("file:///")
    assert unquote(link_to(path)).lstrip("/") == path.lstrip("/")


def test_names_that_are_no_utf8_keep_their_bytes() -> None:
    assert link_to("a\udce9.svs") == "a%E9.svs"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.42, "0.42"),
        (0.0, "0"),
        (0, "0"),
        (1.0, "1"),
        (0.123456, "0.123"),
        (0.9999, "1"),
        (12345.6, "12\u202f300"),
        (12345, "12\u202f345"),
        (999.6, "1\u202f000"),
        (-0.00123, "\u22120.00123"),
        (0.0001, "0.0001"),
        (0.00001234, "1.23 × 10⁻⁵"),
        (-3e12, "\u22123 × 10¹²"),
        (100.0, "100"),
        (10.0, "10"),
    ],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


@given(st.floats(1e-4, 1e8))
def test_a_number_is_within_half_of_its_third_digit(value: float) -> None:
    assert float(number(value).replace("\u202f", "")) == pytest.approx(value, rel=0.00501)


def test_intervals() -> None:
    assert interval_text(0.42, 0.31, 0.55) == "0.42 (0.31 to 0.55)"
    assert interval_text(0.42, None, 0.55) == "0.42"
    assert interval_text(None, 0.31, 0.55) == UNDEFINED


@pytest.mark.parametrize("value", [None, math.nan, math.inf, ""])
def test_the_undefined_is_a_dash_that_speaks(value: float | str | None) -> None:
    assert value_text(value) == UNDEFINED
    assert "–" in html.unescape(UNDEFINED)
    assert "not defined" in UNDEFINED


def test_p_values() -> None:
    assert (p_text(0.0004), p_text(0.0314), p_text(1.0), p_text(None)) == ("< 0.001", "0.031", "1", UNDEFINED)


def test_units_and_words() -> None:
    assert with_unit(3.14159, "mm²") == "3.14\u202fmm²"
    assert with_unit(0.5, "1") == "0.5"
    assert (titled("Area", "mm²"), titled("Share", "1")) == ("Area (mm²)", "Share")
    assert (count(1, "slide"), count(2, "slide"), count(0, "box", "boxes")) == ("1 slide", "2 slides", "0 boxes")
    assert (listed([]), listed(["a"]), listed(["a", "b", "c"])) == ("", "a", "a, b and c")
    assert listed(list("abcdefgh")) == "a, b, c, d, e and 3 more"
    assert slug("Tumor-associated Stroma (new)") == "tumor_associated_stroma_new"
