"""What a person types, into an agent's terminal.

A text is pasted as one piece and then entered, so that its lines are not sent one by one to an
agent that asks for that (bracketed paste); control characters in it, which could end the paste and
press keys, are left out. It stands in tmux's command line while that runs, for a host of another
make has nothing but `run_command`: no place for what other users of the host must not see.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

NAV_KEYS = frozenset({"Up", "Down", "Left", "Right", "Enter", "Escape", "Tab"})
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LONGEST = 100_000  # bytes: one argument of a program may have 128 KiB


async def send_text_to_tmux(
    host: Any,
    tmux_path: str,
    tmux_socket: str,
    tmux_session: str,
    text: str,
    *,
    buffer: str = "optio-input",
    submit_settle: str = "1.0",
) -> None:
    """Paste *text*, wait *submit_settle* seconds for it to be shown, and press Enter.

    Raises ValueError for a text of over 100,000 bytes, RuntimeError where tmux fails.
    """
    typed = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    if len(typed.encode(errors="surrogateescape")) > _LONGEST:
        raise ValueError(f"a text of over {_LONGEST} bytes cannot be typed into a terminal")
    tmux = [tmux_path, "-S", tmux_socket]
    steps: list[Sequence[str]] = [
        ["sleep", str(float(submit_settle))],
        [*tmux, "send-keys", "-t", tmux_session, "Enter"],
    ]
    if typed:  # tmux knows no empty buffer
        steps[:0] = [
            [*tmux, "set-buffer", "-b", buffer, "--", typed],
            [*tmux, "paste-buffer", "-d", "-b", buffer, "-t", tmux_session, "-p"],
        ]
    await _run(host, " && ".join(map(shlex.join, steps)), "the text could not be typed")


async def send_key_to_tmux(
    host: Any, tmux_path: str, tmux_socket: str, tmux_session: str, key: str
) -> None:
    """Press one of NAV_KEYS. Raises ValueError for another, RuntimeError where tmux fails."""
    if key not in NAV_KEYS:
        raise ValueError(f"{key!r} is none of the keys {', '.join(sorted(NAV_KEYS))}")
    command = [tmux_path, "-S", tmux_socket, "send-keys", "-t", tmux_session, key]
    await _run(host, shlex.join(command), f"{key} could not be pressed")


async def _run(host: Any, command: str, failure: str) -> None:
    result = await host.run_command(command)
    if result.exit_code != 0:  # the command holds what was typed: it is not shown
        raise RuntimeError(
            f"{failure}: tmux exited with {result.exit_code}: {result.stderr[-400:]!r}"
        )
