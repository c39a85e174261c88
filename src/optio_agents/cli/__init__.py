"""The command `optio-agents`."""

from __future__ import annotations

import sys
from io import TextIOWrapper


def main() -> None:
    """Run the command; what it needs beyond the library is the extra `cli`."""
    try:
        from .app import run_command  # may be missing what it needs
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("click", "rich"):
            raise
        sys.exit("optio-agents: the command needs more than the library: install optio-agents[cli]")
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, TextIOWrapper):  # better an escape than no word at all
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run_command(sys.argv[1:]))
