"""What an agent inherits: its user's login environment, less what looks like a credential."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

EnvBase: TypeAlias = Literal["login", "empty"]

_CREDENTIAL = re.compile(
    r"(?:^|_)(?:API_?KEY|ACCESS_KEY(?:_ID)?|PRIVATE_KEY|TOKEN|PASSPHRASE|CREDENTIALS?)S?$"
    r"|SECRET|PASSW(?:OR)?D|_PWD$|^SSH_AUTH_SOCK$",
    re.IGNORECASE,
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
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
        if _NAME.fullmatch(name)
        and name not in _SHELLS_OWN
        and not name.startswith("OPTIO_")
        and not looks_like_credential(name)
    }


def check_names(env: Mapping[str, str]) -> None:
    """Raises ValueError for what a shell cannot export."""
    for name in env:
        if not _NAME.fullmatch(name) or name in _SHELLS_OWN:
            raise ValueError(f"{name!r} cannot be set in an agent's environment")
