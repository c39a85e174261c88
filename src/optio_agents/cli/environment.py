"""The variables that an agent is given by name: nothing of ours crosses unnamed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from optio_agents.hosts.agent_environment import looks_like_credential

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def named_environment(
    names: Iterable[str], file: Path | None, ours: Mapping[str, str]
) -> dict[str, str]:
    """What `--env` and `--env-file` name; a flag wins. Raises click.BadParameter."""
    given = dict(_lines(file)) if file else {}
    for word in names:
        name, equals, value = word.partition("=")
        _check(name, "--env")
        if equals and looks_like_credential(name):
            raise click.BadParameter(
                f"{name} looks like a credential, and everybody here can read a command line: "
                f"say --env {name} to hand over our own, or use --env-file"
            )
        if not equals and name not in ours:
            raise click.BadParameter(f"--env {name}: there is no such variable here")
        given[name] = value if equals else ours[name]
    return given


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            name, equals, value = text.removeprefix("export ").partition("=")
            _check(name, f"{file}:{number}")
            if not equals:
                raise click.BadParameter(f"{file}:{number}: say NAME=VALUE")
            yield name, value


def _check(name: str, where: str) -> None:
    if not _NAME.fullmatch(name):
        raise click.BadParameter(f"{where}: {name!r} cannot be the name of a variable")
