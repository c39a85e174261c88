"""What may stand in `config.toml`, and what is wrong with what does.

Loaded where there is such a file: pydantic takes a while.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_core import ErrorDetails


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


_Count = Annotated[int, Field(gt=0)]
_Amount = Annotated[float, Field(gt=0)]


class RunSettings(_Table):
    """`[run]`: the flags of `optio-agents run`, with `_` for `-`, but what is one run's alone."""

    host: str | None = None
    agent: str | None = None
    cwd: str | None = None
    model: str | None = None
    permission: Literal["ask", "accept-edits", "deny", "allow-listed"] | None = None
    allow: list[str] | None = None
    env: list[str] | None = None
    env_file: str | None = None
    save: str | None = None
    stop_on_exit: bool | None = None
    verify: str | None = None
    verify_tries: _Count | None = None
    verify_timeout: _Amount | None = None
    restart: _Count | None = None
    max_usd: _Amount | None = None
    max_turns: _Count | None = None
    max_time: _Amount | None = None
    at_limit: Literal["wait", "stop"] | None = None
    journal_limit: _Count | None = None


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise PydanticCustomError("address", 'is ADDRESS:PORT, as in "127.0.0.1:8787"')
    return text


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise PydanticCustomError("url", "begins with http:// or https://")
    return text


class PageSettings(_Table):
    """`[page]`: the flags of `optio-agents serve`; its URL is `--page` of what notifies, too."""

    listen: Annotated[str, AfterValidator(_address)] | None = None
    token_file: str | None = None
    url: Annotated[str, AfterValidator(_url)] | None = None


class Settings(_Table):
    """The whole file: the flags that several verbs share, and the tables of `run` and the page."""

    host_key: Literal["strict", "accept-new", "insecure"] | None = None
    notify: str | None = None
    targets: dict[str, str] | None = None  # to notify, by name: programs and URLs
    permission_timeout: _Amount | None = None
    stall_after: _Amount | None = None
    lost_after: _Amount | None = None
    run: RunSettings = RunSettings()
    page: PageSettings = PageSettings()

    def of(self, verb: str) -> dict[str, Any]:
        """As click takes defaults; a verb ignores what it has no flag for."""
        own = {"run": self.run, "serve": self.page}.get(verb)
        tables = (self, own) if own else (self,)
        said = {name: value for table in tables for name, value in table if name not in TABLES}
        said["page"] = self.page.url
        return {name: value for name, value in said.items() if value is not None}


TABLES: Mapping[str, type[BaseModel]] = {"run": RunSettings, "page": PageSettings}


def read_settings(text: str, path: Path) -> Settings:
    """What *text*, of the file *path*, says. Raises ValueError with file and line."""
    try:
        return Settings.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).partition(" (at ")
        line = re.search(r"line (\d+)", where)
        at = line[1] if line else len(text.splitlines())  # or "end of document"
        raise ValueError(f"{path}:{at}: this is no TOML: {what}") from error
    except ValidationError as error:
        places = ((_line_of(text, one["loc"]), one) for one in error.errors())
        faults = sorted(places, key=lambda place: place[0])
        lines = [
            f"{path}:{line}: {'.'.join(map(str, one['loc']))}: {_words(one)}"
            for line, one in faults
        ]
        raise ValueError("\n".join(lines)) from None


_KINDS = {
    "string_type": "is a text, in quotes",
    "bool_type": "is true or false",
    "list_type": 'is a list, as in ["a", "b"]',
    "int_type": "is a whole number",
    "float_type": "is a number",
    "dict_type": "is a table",
    "model_type": "is a table",
}


def _words(fault: ErrorDetails) -> str:
    """What is wrong there, and what it should be. What stands there may be a secret."""
    from difflib import get_close_matches  # only where something is wrong

    kind, about = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        name, top = str(fault["loc"][-1]), Settings.model_fields
        below = {name: table for table, of in TABLES.items() for name in of.model_fields}
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
