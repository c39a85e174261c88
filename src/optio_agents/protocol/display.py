"""Showing text that somebody else wrote: nothing in it moves the cursor, hides or reorders."""

import re

LIMIT = 500  # characters: what fits into a progress report

# Printable for Python and yet without ink: fillers, a joiner, the Braille blank and variation
# selectors, except the one that turns a symbol before it into an emoji.
_INKLESS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0e\uffa0"
    "\U000e0100-\U000e01ef]|(?<![\u2190-\u2bff\U0001f000-\U0001faff])\ufe0f"
)


def visible(text: str, *, limit: int = LIMIT) -> str:
    """*text* on one line of at most *limit* characters, safe to print on a terminal.

    Control, escape, bidirectional and zero-width characters, line ends among them, appear as
    Python writes them in a string; an ellipsis stands for what did not fit. For showing, not for
    getting the text back: backslashes are left alone.
    """
    return _shorten(_escape(text[: limit + 1]), limit)


def visible_block(text: str, *, limit: int = 20 * LIMIT) -> str:
    """Like `visible`, but line ends and tabs stay what they are."""
    lines = text[: 2 * limit + 2].replace("\r\n", "\n").split("\n")
    shown = ("\t".join(map(_escape, line.split("\t"))) for line in lines)
    return _shorten("\n".join(shown), limit)


def _escape(text: str) -> str:
    if not text.isprintable():
        text = "".join(char if char.isprintable() else _code(char) for char in text)
    return text if text.isascii() else _INKLESS.sub(lambda match: _code(match[0]), text)


def _code(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: max(limit - 1, 0)] + "…"[:limit]
