"""JSON as its standard has it, bounded: what strangers may send us."""

import json
import math
import re
import sys
from typing import Any, NoReturn

DEPTH = 64
_LARGEST = sys.float_info.max

# A string is skipped in one step, closed or not, so that no input is looked at twice.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def loads(text: str) -> object:
    """The value that *text* holds.

    Raises:
        ValueError: it is not JSON, holds NaN, an infinity or a lone surrogate, or nests deeper
            than `DEPTH`.
    """
    if text.count("[") + text.count("{") > DEPTH:
        _check_depth(text)
    text.encode()  # a lone surrogate in plain sight
    value: object = _DECODER.decode(text)
    if "\\u" in text:
        dumps(value).encode()  # one that was escaped
    return value


def dumps(value: object) -> str:
    """*value* on one line; ValueError for NaN and the infinities."""
    return _ENCODER.encode(value)


def _check_depth(text: str) -> None:
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth > DEPTH:
                raise ValueError(f"nested deeper than {DEPTH}")
        elif token[0] in "]}":
            depth -= 1


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits)


def _refuse(literal: str) -> NoReturn:
    raise ValueError(f"{literal} is no JSON number")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def finite(value: Any) -> Any:
    """*value* with null for each number that JSON, or a float, cannot hold: agents write those."""
    match value:
        case float() | int():
            return value if abs(value) <= _LARGEST else None  # nor is NaN
        case dict():
            return {name: finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [finite(inner) for inner in value]
    return value
