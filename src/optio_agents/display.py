"""Showing text that somebody else wrote: nothing in it moves the cursor, hides or reorders."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from unicodedata import category

__all__ = ["visible", "visible_block"]

LIMIT = 500  # characters: what fits into a progress report
_STACK = 4  # marks above and below one letter; more of them climb over other lines

# Printable for Python and yet without ink: fillers, a joiner, the Braille blank and variation
# selectors, except the one that turns a symbol before it into an emoji.
_INKLESS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0e\uffa0"
    "\U000e0100-\U000e01ef]|(?<![\u2190-\u2bff\U0001f000-\U0001faff])\ufe0f"
)


def visible(text: str, *, limit: int = LIMIT) -> str:
    """*text* on one line of at most *limit* characters, safe to print on a terminal.

    Control, escape, bidirectional and zero-width characters, line ends among them, and marks that
    pile up on a letter appear as Python writes them in a string; an ellipsis stands for what did
    not fit. For showing, not for getting the text back: backslashes are left alone.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    return _shorten(_escape(text[: limit + 1]), limit)


def visible_block(text: str, *, limit: int = 20 * LIMIT) -> str:
    """Like `visible`, but line ends and tabs stay what they are."""
    lines = text[: 2 * limit + 2].replace("\r\n", "\n").split("\n")
    shown = ("\t".join(map(_escape, line.split("\t"))) for line in lines)
    return _shorten("\n".join(shown), limit)


def _escape(text: str) -> str:
    if not text.isprintable():
        text = "".join(char if char.isprintable() else _code(char) for char in text)
    return text if text.isascii() else _flatten(_INKLESS.sub(lambda match: _code(match[0]), text))


def _flatten(text: str) -> str:
    shown, height = list[str](), 0
    for char in text:
        height = height + 1 if category(char) in ("Mn", "Me") else 0
        shown.append(char if height <= _STACK else _code(char))
    return "".join(shown)


def _code(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: max(limit - 1, 0)] + "…"[:limit]


# Keep the values of named credentials out of whatever is recorded or shown.


_SHORTEST = 6  # a shorter value is no credential, and replacing it would garble ordinary words


class Secrets:
    """Values that are replaced by `[NAME]`; the longest first, so that none shines through."""

    def __init__(self, named: Mapping[str, str] | None = None) -> None:
        self._names = {value: name for name, value in (named or {}).items()}
        values = sorted((v for v in self._names if len(v) >= _SHORTEST), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, values))) if values else None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def hide(self, text: str) -> str:
        """*text* with every known value replaced."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: f"[{self._names[found.group()]}]", text)

    def hide_in(self, value: Any) -> Any:
        """*value*, as JSON knows values, with every text in it so treated."""
        match value:
            case str():
                return self.hide(value)
            case Mapping():
                return {self.hide(str(key)): self.hide_in(inner) for key, inner in value.items()}
            case list() | tuple():
                return [self.hide_in(inner) for inner in value]
        return value
