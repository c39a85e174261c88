"""One JSON object a line, as every agent's wire has it: read it leniently, write it strictly. Pure.

What an agent writes may be anything, so reading never raises: what is no object on a line of its
own becomes an event of ours, `x-optio-unreadable`. What we write is built here: agents have been
seen to die of a malformed line and of a byte beyond ASCII.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence, Set as AbstractSet
from functools import cache, partial
from operator import itemgetter
from typing import Any, NamedTuple

from .contract import Event, Unconfirmed

CUT_TEXT = r'"(?P<text>(?:[^"\\]|\\u[0-9a-f]{4}|\\[^u])*)'  # as `encode` writes it, cut anywhere
LINE_LIMIT = 64 << 20  # bytes of a line: a Write call's input is on one

_DEEPEST = 200  # lists and objects in one another: as many as the fast parser takes
_WORD = secrets.token_urlsafe(9)  # never shown to anybody
_BETWEEN = f',"{_WORD}",'.encode()
_EXCERPT = 200  # characters of an unreadable line that its event quotes
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # half the time of json.loads


@cache
def fast_parser() -> Callable[[bytes], Any]:
    """Twice as fast again; not loaded before lines are read.

    It refuses more than `_scan` does (lone surrogates, deep nesting), and gives the same for all
    that it takes; a test holds it to that.
    """
    from pydantic_core import from_json

    return partial(from_json, cache_strings="keys")


class Decoded(NamedTuple):
    """What some lines hold."""

    events: list[Event]
    indices: Sequence[int]  # for each event that of its line
    kinds: AbstractSet[object] | None  # None: not known, so look at each


def read_events(
    lines: Sequence[bytes], sizes: Mapping[int, int] | None = None, *, key: str | None = None
) -> Decoded:
    """The events of *lines*, and of which kinds they are: what stands under *key*.

    *sizes*: the true sizes of those lines, by index, of which only the front is there.
    """
    if lines and not sizes:
        try:
            # all at once: between any two of them stands a word that no agent can write
            found = fast_parser()(_BETWEEN.join((b"[0", *lines, b"0]")))
        except ValueError:
            pass
        else:
            whole, count = found[2:-2:2], len(lines)
            if found[1::2] == [_WORD] * (count + 1):
                try:  # without a step of Python for each
                    kinds = None if key is None else {*map(itemgetter(key), whole)}
                except (KeyError, TypeError):  # one may be no object, or of what cannot be hashed
                    kinds = None
                if kinds is not None or {*map(type, whole)} == {dict}:
                    return Decoded(whole, range(count), kinds)
    events, indices = list[Event](), list[int]()
    for index, line in enumerate(lines):
        size = sizes.get(index) if sizes else None
        new = decode(line) if size is None else [shortened(line, size)]
        events += new
        indices += [index] * len(new)
    return Decoded(events, indices, None)


def decode(line: bytes) -> list[Event]:
    """The events of one line: the agent's object as it is, or one of ours (`x-optio-unreadable`).

    A line that is not UTF-8 gives both: ours first, then the agent's with U+FFFD for bad bytes.
    """
    line = line.removesuffix(b"\n")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode(errors="replace")
        return [_unreadable("not UTF-8", text), *_parse(text)]
    return _parse(text)


def shortened(line: bytes, size: int) -> Event:
    """The event for a line of *size* bytes of which only the front is known."""
    front = line[: 4 * _EXCERPT].decode(errors="replace")
    return _unreadable("too long", front, size=size)


def _parse(text: str) -> list[Event]:
    try:
        value, end = _scan(text, 0)
        if end < len(text) and not text[end:].isspace():
            return [_unreadable("not JSON", text)]
    except (StopIteration, ValueError):
        if (front := text.lstrip(" \t\r\n")) not in {"", text}:
            return _parse(front)
        return [_unreadable("not JSON", text)] if text and not text.isspace() else []
    except RecursionError:
        return [_unreadable("nested too deep", text)]
    if _is_deep(value):
        return [_unreadable("nested too deep", text)]
    return [value] if type(value) is dict else [_unreadable("not an object", text)]


def _is_deep(value: object) -> bool:
    """Whoever walks through it would run out of stack."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True


def _unreadable(reason: str, text: str, **more: object) -> Event:
    excerpt = text[:_EXCERPT]
    return {"type": "x-optio-unreadable", "reason": reason, "excerpt": excerpt, **more}


def encode(message: Mapping[str, Any]) -> bytes:
    """One line. Raises ValueError for what no JSON can hold."""
    try:
        # ASCII also for lone surrogates and U+2028, which other readers trip over
        text = json.dumps(message, allow_nan=False, separators=(",", ":"))
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    return text.encode("ascii") + b"\n"


def read_front(pattern: re.Pattern[str], front: bytes) -> Unconfirmed | None:
    """The message that *front* begins, if *pattern* finds its uuid and its `CUT_TEXT` there."""
    if (found := pattern.match(front.decode("ascii", errors="replace"))) is None:
        return None
    text: str = json.loads(f'"{found["text"]}"')
    # a front may end within a surrogate pair
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return Unconfirmed(found["uuid"], whole)


# What an agent writes may be anything, also where it should be an object or a list


def as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
