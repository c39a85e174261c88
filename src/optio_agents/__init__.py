"""Supervise coding agents on local and remote hosts, and know the truth about them.

The ten names that one needs, by purpose; `help(optio_agents.NAME)` describes each.

    run an agent        supervise     start one, or find it again, and see it to its true end
                        Claude        what to run: Claude Code, with a prompt
                        Command       what to run: any program
    say where           make_host     this machine, or `make_host("me@box", taskdir=…)`
                        Store         the journal of all that happened, on this machine's disk
    look on, and act    find_session  the live session, for whoever is not its owner
                        PermissionDecision   the answer to what an agent asks
    in a task hook      run_log_protocol_session   what a body does on a host, to one true end
    read and teach      parse_log_line             one line of a log, as an event
                        build_log_channel_prompt   the words that teach an agent to report

What goes wrong is an `OptioAgentsError`. Texts of agents are shown with `visible`. The guide is
read with `optio-agents help`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .context import *
    from .conversation import *
    from .display import *
    from .errors import *
    from .family import *
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
    "family",
)
# What the engine packages of the optio family know by name lies in a room of its own; these
# modules they take as attributes, without importing them.
__path__ += [f"{__path__[0]}/family/{part}" for part in ("values", "machinery")]
MODULES = {
    "account",
    "agent_info",
    "browser_shims",
    "claustrum",
    "config_types",
    "custom_controls",
    "input_listener",
    "mcp",
    "model_probe",
    "seeds",
    "session_controls",
    "steering",
    "text",
    "tmux_input",
}


def _public(part: str) -> list[str]:
    names: list[str] = import_module(f".{part}", __name__).__all__
    return names


def __getattr__(name: str) -> object:
    if name == "__all__":
        return __dir__()
    if name in PARTS or name in MODULES:  # `from optio_agents import errors` asks here first
        return import_module(f".{name}", __name__)
    for part in PARTS if not name.startswith("_") else ():
        if name in _public(part):
            value = globals()[name] = getattr(import_module(f".{part}", __name__), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({name for part in PARTS for name in _public(part)})
