"""Supervise coding agents on local and remote hosts, and know the truth about them."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .context import *
    from .conversation import *
    from .display import *
    from .errors import *
    from .hosts import *
    from .protocol import *
    from .session import *
    from .store import *
    from .supervision import *

# The public names are those of the parts. A name is looked for in the light ones first: reading a
# line of a log loads neither an event loop nor a database.
PARTS = (
    "errors",
    "display",
    "protocol",
    "context",
    "hosts",
    "session",
    "conversation",
    "supervision",
    "store",
)


def _public(part: str) -> list[str]:
    names: list[str] = import_module(f".{part}", __name__).__all__
    return names


def __getattr__(name: str) -> object:
    if name == "__all__":
        return __dir__()
    if name in PARTS:  # `from optio_agents import errors` asks here before it imports
        return import_module(f".{name}", __name__)
    for part in PARTS if not name.startswith("_") else ():
        if name in _public(part):
            value = globals()[name] = getattr(import_module(f".{part}", __name__), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({name for part in PARTS for name in _public(part)})
