"""Programs that agents open a browser with, replaced in front of their PATH."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from optio_agents.hosts.scripting import script

from .errors import CommandFailed
from .protocol.features import BrowserMode as BrowserMode

if TYPE_CHECKING:
    from optio_agents.hosts.host import Host


NAMES = (
    "xdg-open",
    "gio",
    "open",
    "sensible-browser",
    "www-browser",
    "x-www-browser",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "google-chrome-beta",
    "firefox",
)
_NO_DISPLAY = ":0"  # without any, an agent would not even try
_SILENT = "#!/bin/sh\nexit 0\n"


async def prepare_browser_shims(host: Host, mode: str) -> dict[str, str] | None:
    """Install them for *mode*; what to add to the agent's environment: PATH, BROWSER, DISPLAY.

    "redirect" has them append `BROWSER: "<url>"` to the log, "suppress" has them do nothing,
    "ignore" installs none and gives None. They stand in `<workdir>/bin`, or in the task directory
    where the work directory is the user's own.
    Raises ValueError for another mode, TransferFailed, CommandFailed, HostLost.
    """
    match mode:
        case "ignore":
            return None
        case "suppress":
            text = _SILENT
        case "redirect":
            text = script("hosts/browser")
        case _:
            raise ValueError(f"{mode!r} is no way to treat a browser")
    # hosts of other makes have no directories but their own
    home = host.workdir if getattr(host, "own_workdir", True) else host.taskdir
    directory = posixpath.join(home, "bin")
    first, *others = NAMES
    opener = posixpath.join(directory, first)
    await host.put_file_to_host(text.encode(), opener)
    copies = "; ".join(f"ln -f {first} {name} || exit" for name in others)
    command = f'chmod 755 {first} || exit; {copies}; printf \'%s\\n\' "$PATH" "${{DISPLAY-}}"'
    done = await host.run_command(command, cwd=directory)
    if done.exit_code:
        raise CommandFailed(command, done.exit_code, done.stdout, done.stderr)
    known = dict(zip(("PATH", "DISPLAY"), done.stdout.split("\n"), strict=False))
    if machine := getattr(host, "machine", None):
        known |= await machine.login_environment()
    path = known.get("PATH")
    added = {"PATH": f"{directory}:{path}" if path else directory, "BROWSER": opener}
    return added | {"DISPLAY": known.get("DISPLAY") or _NO_DISPLAY}
