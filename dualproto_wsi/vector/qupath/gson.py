"""JSON as QuPath's parser (Gson, lenient) takes it, and its conversions between kinds of values.

A standard file is read by orjson. NaN and Infinity without quotes, which Python's own writers leave behind, are text
for Gson; the standard library reads those. What is left is read here as Gson does: comments, single quotes, names and
words without quotes, ``;`` for ``,``, ``=`` for ``:``, and a missing item of an array, which is null.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import orjson


class Refused(Exception):
    """QuPath would throw here; the text says why. A verdict: it never leaves this package."""


TOO_DEEP = "its JSON is nested too deep"


_SPACE = re.compile(r"(?:[ \t\r\n\f]+|//[^\r\n]*|#[^\r\n]*|/\*.*?\*/)*", re.S)
_WORD = re.compile(r"[^/\\;#={}\[\]:, \t\r\n\f\"']+[^/\\;#={}\[\]:, \t\r\n\f]*")
_TEXT = {quote: re.compile(rf"{quote}((?:[^{quote}\\]|\\.)*){quote}", re.S) for quote in "\"'"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|[\s\S])")
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b", "r": "\r", "f": "\f"} | {sign: sign for sign in "\"'\\/\n"}
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_JAVA_DOUBLE = re.compile(r"[+-]?(?:NaN|Infinity|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[dDfF]?)")
_DIGITS = 300  # of a number that any double holds
_KEYWORDS = {"true": True, "false": False, "null": None}


def parse(data: bytes) -> Any:
    """Read a document as Gson does.

    Parameters
    ----------
    data : bytes
        UTF-8; bytes that are not become U+FFFD.

    Returns
    -------
    dict, list, str, int, float, bool or None
        None also for an empty document.

    Raises
    ------
    Refused
        If Gson does not read it.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    try:
        return json.loads(text, strict=False, parse_constant=str, parse_int=_whole)
    except RecursionError as error:
        raise Refused(TOO_DEEP) from error
    except ValueError:
        return _LenientParser(text).document()


def _whole(digits: str) -> float:
    """Return an integer; as Java's double, infinity, what no double holds."""
    return int(digits) if len(digits) <= _DIGITS else float(digits)


class _LenientParser:
    def __init__(self, text: str) -> None:
        self._text, self._at = text.removeprefix(")]}'\n"), 0

    def document(self) -> Any:
        if not self._peek():
            return None
        try:
            value = self._value()
        except RecursionError as error:
            raise Refused(TOO_DEEP) from error
        if self._peek():
            raise self._wrong("the document ends here, more follows; write one FeatureCollection")
        return value

    def _peek(self) -> str:
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        return self._text[self._at : self._at + 1]

    def _wrong(self, what: str) -> Refused:
        line = self._text.count("\n", 0, self._at) + 1
        return Refused(
            f"it is not JSON: line {line}, column {self._at - self._text.rfind(chr(10), 0, self._at)}: {what}"
        )

    def _value(self) -> Any:
        first = self._peek()
        if first == "{":
            return self._object()
        if first == "[":
            return self._array()
        return self._quoted(first) if first and first in _TEXT else self._unquoted()

    def _quoted(self, quote: str) -> str:
        match = _TEXT[quote].match(self._text, self._at)
        if not match:
            raise self._wrong("a text does not end; the file may be cut off")
        self._at = match.end()
        # Two escapes may make one character.
        return _ESCAPE.sub(self._unescape, match[1]).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")

    def _unescape(self, match: re.Match[str]) -> str:
        if len(match[1]) == 5:
            return chr(int(match[1][1:], 16))
        if match[1] not in _ESCAPES:
            raise self._wrong(f"\\{match[1]} means nothing")
        return _ESCAPES[match[1]]

    def _unquoted(self) -> Any:
        match = _WORD.match(self._text, self._at)
        if not match:
            raise self._wrong("a value is expected; the file may be cut off")
        self._at = match.end()
        word = match[0]
        if word.lower() in _KEYWORDS:
            return _KEYWORDS[word.lower()]
        if not _NUMBER.fullmatch(word):
            return word
        return _whole(word) if word.lstrip("-").isdecimal() else float(word)

    def _array(self) -> list[Any]:
        self._at += 1
        items: list[Any] = []
        if self._peek() == "]":
            self._at += 1
            return items
        while True:
            first = self._peek()
            items.append(None if first and first in ",;]" else self._value())
            if self._ends("]"):
                return items

    def _object(self) -> dict[str, Any]:
        self._at += 1
        items: dict[str, Any] = {}
        if self._peek() == "}":
            self._at += 1
            return items
        while True:
            first = self._peek()
            start = self._at
            name = self._quoted(first) if first and first in _TEXT else self._unquoted()
            name = name if isinstance(name, str) else self._text[start : self._at]
            if self._peek() not in (":", "="):
                raise self._wrong("a colon is expected after a name")
            self._at += 2 if self._text.startswith("=>", self._at) else 1
            items[name] = self._value()
            if self._ends("}"):
                return items

    def _ends(self, end: str) -> bool:
        """Go behind the sign that ends or goes on, and tell which it is."""
        sign = self._peek()
        if sign not in (end, ",", ";"):
            raise self._wrong(f"a comma or {end} is expected; the file may be cut off")
        self._at += 1
        return sign == end


def as_object(value: Any, name: str) -> dict[str, Any]:
    """Return an object, or refuse."""
    if not isinstance(value, dict):
        raise Refused(f"{name} is {told(value)}, an object is expected")
    return value


def as_array(value: Any, name: str) -> list[Any]:
    """Return an array, or refuse."""
    if not isinstance(value, list):
        raise Refused(f"{name} is {told(value)}, an array is expected")
    return value


def as_text(value: Any, name: str) -> str:
    """Return a text, or a number or true/false as one, or refuse; an array of one stands for its item."""
    if isinstance(value, list) and len(value) == 1:
        return as_text(value[0], name)
    if value is None or isinstance(value, dict | list):
        raise Refused(f"{name} is {told(value)}; leave it out or give a text")
    if isinstance(value, bool):
        return "true" if value else "false"
    return mended(str(value))


def mended(text: str) -> str:
    """Return a text that can be written out: JSON may hold halves of characters, which become question marks."""
    return text.encode("utf-8", "replace").decode()


def as_number(value: Any, name: str) -> float:
    """Return a number, or a text that spells one for Java, or refuse; an array of one stands for its item."""
    if isinstance(value, list) and len(value) == 1:
        return as_number(value[0], name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and _JAVA_DOUBLE.fullmatch(value.strip()):
        return float(value.strip().rstrip("dDfF") if value.strip()[-1:] in "dDfF" else value)
    raise Refused(f"{name} is {told(value)}, a number is expected")


def as_integer(value: Any, name: str) -> int:
    """Return a number without its decimals, or a text that spells a Java int, or refuse."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,300}", value) and -(2**31) <= int(value) < 2**31:
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return int(value)
    raise Refused(f"{name} is {told(value)}, a whole number is expected")


def as_flag(value: Any) -> bool:
    """Return true/false or a text that spells it; all else is false, as for Java."""
    return value is True or (isinstance(value, str) and value.lower() == "true")


def told(value: Any) -> str:
    """Return a value as a message tells it: short, as it stands in the file."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    try:
        text = orjson.dumps(value).decode()
    except TypeError:  # half of a surrogate pair, or nested too deep for orjson
        text = repr(value) if isinstance(value, str) else "an array or object"
    return text if len(text) <= 40 else text[:37] + "..."
