"""The user's settings: `config.toml`, below the environment, below the flags."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_core import ErrorDetails

CONFIGURED = (
    "run",
    "demo",
    "attach",
    "watch",
    "ls",
    "doctor",
    "serve",
)  # the verbs that have settings


def config_path() -> Path:
    """Where the settings stand."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "optio-agents" / "config.toml"


def defaults() -> dict[str, dict[str, Any]]:
    """What it says, verb by verb, as click takes it. Raises ValueError with file and line."""
    path = config_path()
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    import tomllib  # only where there is something to read

    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).partition(" (at ")
        line = re.search(r"line (\d+)", where)
        at = line[1] if line else len(text.splitlines())  # or "end of document"
        raise ValueError(f"{path}:{at}: this is no TOML: {what}") from error
    return _checked(said, path, text)


def _checked(said: dict[str, Any], path: Path, text: str) -> dict[str, dict[str, Any]]:
    from pydantic import ValidationError

    from .settings import TABLES, Settings  # pydantic takes a while: only where needed

    try:
        settings = Settings.model_validate(said)
    except ValidationError as error:
        places = ((_line_of(text, one["loc"]), one) for one in error.errors())
        below = {name: table for table, of in TABLES.items() for name in of.model_fields}
        faults = sorted(places, key=lambda place: place[0])
        lines = [
            f"{path}:{line}: {'.'.join(map(str, one['loc']))}: "
            f"{_words(one, Settings.model_fields, below)}"
            for line, one in faults
        ]
        raise ValueError("\n".join(lines)) from None
    return {verb: settings.of(verb) for verb in CONFIGURED}


_KINDS = {
    "string_type": "is a text, in quotes",
    "bool_type": "is true or false",
    "list_type": 'is a list, as in ["a", "b"]',
    "int_type": "is a whole number",
    "float_type": "is a number",
    "dict_type": "is a table",
    "model_type": "is a table",
}


def _words(fault: ErrorDetails, top: Iterable[str], below: Mapping[str, str]) -> str:
    """What is wrong there, and what it should be. What stands there may be a secret.

    *below*: which table a setting is in.
    """
    from difflib import get_close_matches  # only where something is wrong

    kind, about = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        name = str(fault["loc"][-1])
        if below.get(name, fault["loc"][0]) != fault["loc"][0]:
            return f"this belongs below [{below[name]}]"
        if name in top:
            return "this belongs at the top, in front of every table"
        close = get_close_matches(name, [*top, *below], 1)
        return f"there is no such setting{f'; maybe {close[0]}' if close else ''}"
    if kind == "literal_error":
        return f"this is one of {about.get('expected')}"
    if kind == "greater_than":
        return f"this is more than {about.get('gt'):g}"
    return f"this {_KINDS.get(kind, fault['msg'])}"


def _line_of(text: str, where: tuple[int | str, ...]) -> int:
    """The line where that key stands, behind the header of its table; 1 if it is not found."""
    wanted = [str(part) for part in where if isinstance(part, str)]
    lines, start = text.splitlines(), 0
    for number, line in enumerate(lines, 1):
        if len(wanted) > 1 and re.match(rf"\s*\[\s*{re.escape(wanted[0])}\s*\]", line):
            start = number
    for number, line in enumerate(lines[start:], start + 1):
        if re.match(rf"\s*\[?\s*{re.escape(wanted[-1])}\s*[\]=]", line):
            return number
    return max(start, 1)
