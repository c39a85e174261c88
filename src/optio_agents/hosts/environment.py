"""The environment that a machine's user gets at login there."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

from optio_agents.errors import CommandTimedOut

from .scripting import RUN, is_variable, new_mark, script

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .machine import Machine


# What an agent inherits: its user's login environment, less what looks like a credential.


EnvBase: TypeAlias = Literal["login", "empty"]
Base: TypeAlias = Literal["ours", "theirs"]

_CREDENTIAL = re.compile(
    r"(?:^|_)(?:API_?KEY|ACCESS_KEY(?:_ID)?|PRIVATE_KEY|TOKEN|PASSPHRASE|CREDENTIALS?)S?$"
    r"|SECRET|PASSW(?:OR)?D|_PWD$|^SSH_AUTH_SOCK$",
    re.IGNORECASE,
)
# What a shell says of itself; some of these it does not even let itself be told.
_SHELLS_OWN = {"_", "BASHOPTS", "EUID", "OLDPWD", "PPID", "PWD", "SHELLOPTS", "SHLVL", "UID"}


def looks_like_credential(name: str) -> bool:
    """Whether the value of an environment variable of this *name* is better not passed on."""
    return _CREDENTIAL.search(name) is not None


def inheritable(login: Mapping[str, str]) -> dict[str, str]:
    """What of a *login* environment an agent gets unasked."""
    return {
        name: value
        for name, value in login.items()
        if is_variable(name)
        and name not in _SHELLS_OWN
        and not name.startswith("OPTIO_")
        and not looks_like_credential(name)
    }


def check_names(env: Mapping[str, str]) -> None:
    """Raises ValueError for what a shell cannot export."""
    for name in env:
        if not is_variable(name) or name in _SHELLS_OWN:
            raise ValueError(f"{name!r} cannot be set in an agent's environment")


_log = logging.getLogger(__name__)
_PATIENCE = 10.0  # seconds that the user's profile may take


async def read_login(machine: Machine, *, base: Base) -> Mapping[str, str]:
    """What `$SHELL -l` exports; what a plain shell has, where that takes too long or fails.

    Our own children start without ("ours") what only the supervisor was given.
    """
    for shell in "login", "plain":
        with suppress(CommandTimedOut):
            if found := await _read(machine, shell, base):
                return found
        _log.warning("%s: no environment from a %s shell", machine.name, shell)
    return {}


async def _read(machine: Machine, shell: str, base: Base) -> dict[str, str]:
    mark = new_mark()
    answer = await machine.ask(script("hosts/environment"), [shell, base, mark], seconds=_PATIENCE)
    _, _, rest = answer.stdout.partition(f"<{mark}>".encode())
    whole, end, _ = rest.partition(f"</{mark}>".encode())
    pairs = (entry.partition("=") for entry in whole.decode("utf-8", "surrogateescape").split("\0"))
    found = {name: value for name, eq, value in pairs if eq and is_variable(name) and name != RUN}
    return found if end else {}
