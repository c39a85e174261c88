"""The environment that a machine's user gets at login there."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

from optio_agents.display import passwords_in
from optio_agents.errors import CommandTimedOut

from .scripting import RUN, is_variable, new_mark, script

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .machine import Machine


# What an agent inherits: its user's login environment, less what looks like a credential.


EnvBase: TypeAlias = Literal["login", "empty"]

# By what it is called: a word for a secret at the end, maybe numbered. What names a program, a
# public half or a number of tokens does not count.
_CREDENTIAL = re.compile(
    r"(?:^|_)(?:API_?KEY|ACCESS_KEY_ID|(?<!PUBLIC_)KEY|PASSPHRASE|PW|(?<=_)PWD|PAT|JWT|COOKIE"
    r"|CREDENTIAL|AUTH(?:_CONFIG|_SOCK|_HEADER|_STRING)?|AUTHORIZATION|BEARER|DSN|HEADER|MNEMONIC"
    r"|CONN(?:ECTION)?_?STR(?:ING)?|WEBHOOK(?:_URL)?)S?_?\d*$"
    r"|(?<!ASK)(?<!BY)(?<!COM)PASS_?\d*$|(?<!MAX_)(?<!OUTPUT_)(?<!THINKING_)TOKENS?_?\d*$"
    r"|SECRET|PASSW(?:OR)?D",
    re.IGNORECASE,
)
# By what it is.
_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|(?:gh[oprsu]_|github_pat_|glpat-|sk-|xox[a-z]-|eyJ[\w-]+\.eyJ)[\w.-]{16}"
)
# What a shell says of itself; some of these it does not even let itself be told.
_SHELLS_OWN = {"_", "BASHOPTS", "EUID", "OLDPWD", "PPID", "PWD", "SHELLOPTS", "SHLVL", "UID"}


def looks_like_credential(name: str, value: str = "") -> bool:
    """Whether an environment variable is better not passed on unasked, nor shown."""
    found = _CREDENTIAL.search(name) or _VALUE.match(value.lstrip())
    return found is not None or bool(passwords_in(value))


def credentials_in(env: Mapping[str, str]) -> dict[str, str]:
    """What of *env* looks like a credential."""
    return {name: value for name, value in env.items() if looks_like_credential(name, value)}


def inheritable(login: Mapping[str, str]) -> dict[str, str]:
    """What of a *login* environment an agent gets unasked."""
    return {
        name: value
        for name, value in login.items()
        if is_variable(name)
        and name not in _SHELLS_OWN
        and not name.startswith("OPTIO_")
        and not looks_like_credential(name, value)
    }


def check_names(env: Mapping[str, str]) -> None:
    """Raises ValueError for what a shell cannot export."""
    for name in env:
        if not is_variable(name) or name in _SHELLS_OWN:
            raise ValueError(f"{name!r} cannot be set in an agent's environment")


_log = logging.getLogger(__name__)
_PATIENCE = 10.0  # seconds that the user's profile may take


async def read_login(machine: Machine) -> Mapping[str, str]:
    """What `$SHELL -l` exports; what a plain shell has, where that takes too long or fails."""
    for shell in "login", "plain":
        with suppress(CommandTimedOut):
            if found := await _read(machine, shell):
                return found
        _log.warning("%s: no environment from a %s shell", machine.name, shell)
    return {}


async def _read(machine: Machine, shell: str) -> dict[str, str]:
    mark = new_mark()
    base = "ours" if machine.is_local else "theirs"  # ours holds what only we were given
    answer = await machine.ask(script("hosts/environment"), [shell, base, mark], seconds=_PATIENCE)
    _, _, rest = answer.stdout.partition(f"<{mark}>".encode())
    whole, end, _ = rest.partition(f"</{mark}>".encode())
    pairs = (entry.partition("=") for entry in whole.decode("utf-8", "surrogateescape").split("\0"))
    found = {name: value for name, eq, value in pairs if eq and is_variable(name) and name != RUN}
    return found if end else {}
