"""The command `optio-agents`.

What it does, it does with the library: a session is the live one of `supervision`, its events are
shown in one order and two ways. Exit codes, flags and the lines for programs are a contract.

Read `app` (the verbs, and where an error becomes words), `exits` (the codes), `options` and
`settings` (what is asked for), `output`; then `verbs/` and `screen/`.
"""

from __future__ import annotations

import gc
import signal
import sys
from io import TextIOWrapper

from optio_agents.errors import missing_extra


def main() -> None:
    """Run the command; what it needs beyond the library is the extra `cli`."""
    gc.set_threshold(50_000)  # to look for garbage in what is imported takes a tenth of the start
    try:
        from .app import run_command  # may be missing what it needs
        from .output import mute, open_closed
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("click", "rich"):
            raise
        sys.exit(f"optio-agents: {missing_extra('cli', 'the command')}")
    open_closed()
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, TextIOWrapper):  # better an escape than no word at all
            stream.reconfigure(errors="backslashreplace")
    code = run_command(sys.argv[1:])
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # the code says how it ended, Python's end would not
    try:
        sys.stdout.flush()
    except OSError:  # it was told when the words were written
        mute()
    sys.exit(code)
