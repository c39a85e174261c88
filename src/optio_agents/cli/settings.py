"""What may stand in `config.toml`; apart from `config`, for pydantic takes a while to load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


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
