"""HTML that is escaped unless it was made here."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterable
from urllib.parse import quote

VOID = frozenset({"img", "input", "link", "meta", "wbr"})

UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Control characters, and the halves of characters that Python makes of file names that are no UTF-8."""


class Html(str):
    """Text that is HTML already; any other text is escaped by :func:`tag` and :func:`join`."""

    __slots__ = ()


Child = str | Iterable["Child"] | None
"""What an element may hold: text, :class:`Html`, nothing, or several of these."""

Attribute = str | int | float | bool | None


def escape(text: str) -> Html:
    """Return text as HTML; what no file can hold becomes the replacement character."""
    if isinstance(text, Html):
        return text
    return Html(html.escape(UNPRINTABLE.sub("\ufffd", text)))


def join(*children: Child) -> Html:
    """Return several pieces as one, everything that is not :class:`Html` escaped."""
    return Html("".join(_flat(children)))


def _flat(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if isinstance(child, str):
            yield escape(child)
        elif child is not None:
            yield from _flat(child)


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Html:
    """Return an element.

    Parameters
    ----------
    name : str
    *children : Child
        Text is escaped.
    **attributes : str, int, float, bool or None
        ``class_`` is ``class``, ``stroke_width`` is ``stroke-width``; True gives a bare attribute, None and False
        none. Floats are written with two decimals, which is finer than any screen.

    Returns
    -------
    Html
    """
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        label = key.rstrip("_").replace("_", "-")
        parts.append(label if value is True else f'{label}="{_attribute(value)}"')
    start = f"<{' '.join(parts)}>"
    return Html(start if name in VOID else f"{start}{join(*children)}</{name}>")


def _attribute(value: str | int | float) -> str:
    if isinstance(value, str):
        return escape(value)
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def hidden(text: str) -> Html:
    """Return text that is heard and not seen."""
    return tag("span", text, class_="heard")


def link_to(path: str) -> str:
    """Return a relative path as an address that cannot leave the machine.

    A colon is quoted and a leading ``//`` shortened, so that no name can become ``javascript:…`` or another host.

    Parameters
    ----------
    path : str
        With ``/``, relative to the report; a name that is no UTF-8 keeps its bytes.
    """
    return re.sub("^/+", "/", quote(os.fsencode(path), safe="/"))
