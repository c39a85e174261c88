"""Showing text that somebody else wrote: nothing in it moves the cursor, hides or reorders."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from unicodedata import category

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
#
# An agent that handles a credential writes it as it comes along: in JSON, in a URL, in base64 as
# part of a header, a line of a key by itself. And a text may have been cut before we see it (the
# end of an output, a wrapped line), so that a piece of a value stands at its end. All of that is
# looked for in one place, here, and before we cut anything ourselves.


_SHORTEST = 6  # a shorter value is no credential, and replacing it would garble ordinary words
_PIECE = 8  # characters of a value that tell it from ordinary words: a line of it, a cut one
_PLACES = 1 << 15
_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s@]+)@|\b(?:password|pwd)=([^\s&;]+)", re.IGNORECASE)


def passwords_in(value: str) -> list[str]:
    """Those that stand within *value*, a URL or what a database is found by."""
    return [url or word for url, word in _PASSWORD.findall(value)]


class Secrets:
    """Values that are replaced by `[NAME]`; the longest first, so that none shines through."""

    def __init__(self, named: Mapping[str, str] | None = None) -> None:
        self.values = dict(named or {})
        self._names: dict[str, str] = {}
        for name, value in (named or {}).items():
            for form in _forms(value):
                self._names.setdefault(form, name)
        self._forms = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._forms)))
        self._all = "\0".join(self._forms)
        self._known = bytearray(
            _PLACES if self._forms else 0
        )  # pieces by their hash: a Bloom filter
        for start in range(len(self._all) - _PIECE + 1):
            self._known[hash(self._all[start : start + _PIECE]) % _PLACES] = 1

    def __bool__(self) -> bool:
        return bool(self._forms)

    def hide(self, text: str) -> str:
        """*text* with every known value replaced, and what is left of one at its ends."""
        if not self._forms:
            return text
        for form in self._forms:
            if form in text:
                text = self._pattern.sub(lambda found: f"[{self._names[found.group()]}]", text)
                break
        return self._hide_ends(text)

    def hide_each(self, texts: Sequence[str]) -> list[str]:
        """`hide` for many texts; they are searched as one, which is mostly in vain."""
        if not self._forms:
            return list(texts)
        whole = "\n".join(texts)
        if any(form in whole for form in self._forms):
            return [self.hide(text) for text in texts]
        return [self._hide_ends(text) for text in texts]

    def _hide_ends(self, text: str) -> str:
        if len(text) >= _PIECE:
            for piece in text[:_PIECE], text[-_PIECE:]:
                if self._known[hash(piece) % _PLACES] and piece in self._all:
                    return self._hide_pieces(text)
        return text

    def _hide_pieces(self, text: str) -> str:
        for form in self._forms:
            if text in form:
                return f"[{self._names[form]}]"
        first, last = ("", 0), ("", 0)  # the longest of both ends
        for form in self._forms:
            for size in range(min(len(form), len(text)) - 1, _PIECE - 1, -1):
                if size > first[1] and text.startswith(form[-size:]):
                    first = self._names[form], size
                if size > last[1] and text.endswith(form[:size]):
                    last = self._names[form], size
        text = text[: len(text) - last[1]] + (f"[{last[0]}]" if last[1] else "")
        return (f"[{first[0]}]" if first[1] else "") + text[first[1] :]

    def hide_in(self, value: Any) -> Any:
        """*value*, as JSON knows values, with every text in it so treated."""
        if not self._forms:
            return value
        match value:
            case str():
                return self.hide(value)
            case Mapping():
                hidden = map(self.hide_in, value.values())
                return dict(zip(map(self.hide, map(str, value)), hidden, strict=True))
            case list() | tuple():
                return list(map(self.hide_in, value))
        return value

    def put_back(self, value: Any, source: Any) -> Any:
        """*value*, whose texts were taken from *source* with its values hidden, as it has them."""
        whole = {self.hide(text): text for text in _texts(source)} if self._forms else {}

        def put(inner: Any) -> Any:
            match inner:
                case str():
                    return whole.get(inner, inner)
                case Mapping():
                    return {put(key): put(one) for key, one in inner.items()}
                case list() | tuple():
                    return [put(one) for one in inner]
            return inner

        return put(value)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for key, inner in value.items():
                yield from (*_texts(key), *_texts(inner))
        case list() | tuple():
            for inner in value:
                yield from _texts(inner)


def _forms(value: str) -> Iterator[str]:
    """How *value*, and what of it is a secret by itself, may be written."""
    import json  # most who show text know of no credential
    from base64 import b64encode
    from urllib.parse import quote, quote_plus, unquote

    lines = [line for line in map(str.strip, value.splitlines()) if len(line) >= _PIECE]
    inner = [word for found in passwords_in(value) for word in (found, unquote(found))]
    for part in dict.fromkeys((value, value.strip(), *lines, *inner)):
        if len(part) < _SHORTEST:
            continue
        raw = part.encode("utf-8", "surrogateescape")
        yield from (part, repr(part)[1:-1], raw.hex(), raw.hex().upper())
        for ascii_only in False, True:
            once = json.dumps(part, ensure_ascii=ascii_only)[1:-1]
            yield from (once, once.replace("/", "\\/"), json.dumps(once)[1:-1])
        for quoted in quote(raw, safe=""), quote(raw), quote_plus(raw):
            yield from (quoted, re.sub("%..", lambda code: code[0].lower(), quoted))
        for before in range(3):  # bytes in front of it, as in "user:" and a password
            first, last = -(-8 * before // 6), 8 * (before + len(raw)) // 6
            form = b64encode(bytes(before) + raw)[first:last].decode()
            yield from (form, form.replace("+", "-").replace("/", "_"))
