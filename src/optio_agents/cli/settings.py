"""What may stand in `config.toml`; apart from `config`, for pydantic takes a while to load."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class RunSettings(_Table):
    """`[run]`: the flags of `optio-agents run`, with `_` for `-`."""

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


class Settings(_Table):
    """The whole file: the flags that several verbs share, and the table of `run`."""

    host_key: Literal["strict", "accept-new", "insecure"] | None = None
    notify: str | None = None
    targets: dict[str, str] | None = None  # to notify, by name: programs and URLs
    stall_after: float | None = Field(None, gt=0)
    lost_after: float | None = Field(None, gt=0)
    run: RunSettings = RunSettings()

    def of(self, verb: str) -> dict[str, Any]:
        """As click takes defaults; a verb ignores what it has no flag for."""
        tables = (self, self.run) if verb == "run" else (self,)
        said = ((name, value) for table in tables for name, value in table)
        return {name: value for name, value in said if value is not None and name != "run"}
