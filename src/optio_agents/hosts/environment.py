"""The environment that a machine's user gets at login there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from .bootstrap import RUN, is_variable, new_mark, script
from .collect import collected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .machine import Machine

_log = logging.getLogger(__name__)
_PATIENCE = 10.0  # seconds that the user's profile may take


async def at_login(machine: Machine) -> Mapping[str, str]:
    """What `$SHELL -l` exports; what a plain shell has, where that takes too long or fails."""
    for shell in "login", "plain":
        with anyio.move_on_after(_PATIENCE):
            if found := await _asked(machine, shell):
                return found
        _log.warning("%s: no environment from a %s shell", machine.name, shell)
    return {}


async def _asked(machine: Machine, shell: str) -> dict[str, str]:
    mark = new_mark()
    base = "ours" if machine.is_local else "theirs"
    async with machine.shell(script("environment"), [shell, base, mark]) as process:
        answer = await collected(process)
    _, _, rest = answer.stdout.partition(f"<{mark}>".encode())
    whole, end, _ = rest.partition(f"</{mark}>".encode())
    pairs = (entry.partition("=") for entry in whole.decode("utf-8", "surrogateescape").split("\0"))
    found = {name: value for name, eq, value in pairs if eq and is_variable(name) and name != RUN}
    return found if end else {}
