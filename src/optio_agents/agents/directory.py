"""A session directory on its host: scripts of ours run in it, and what they refuse is an error."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from optio_agents.hosts.retrying import retrying
from optio_agents.hosts.scripting import collect, refusal, script

if TYPE_CHECKING:
    from optio_agents.hosts.machine import Machine


_WARM = 1 << 20  # bytes: more would hold up whoever else talks through the warm shell
_SLOWEST = 10_000  # bytes a second that a link must carry


class Directory:
    """One session directory. What it runs is safe to repeat, and is repeated over lost links."""

    def __init__(self, machine: Machine, path: str) -> None:
        self.machine, self.path = machine, path
        self.fence = ""  # in an owner's hands: the file that ends the ownership

    async def run(self, names: str, *args: str, data: bytes = b"") -> bytes:
        """Run scripts of ours, one text, in the directory; returns what they say.

        Goes on through lost links until the host has answered: cancel it to give up.
        Raises FileRefused (no such session), WorkDirRefused, NameTaken, InputClosed,
        TransferFailed (the disk is full), CommandFailed, HostKeyRefused, and AlreadyOwned once
        another owns what was ours.
        """
        return await retrying(self.machine, partial(self.run_once, names, *args, data=data))

    async def run_once(self, names: str, *args: str, data: bytes = b"") -> bytes:
        """The same, but raises HostLost, CommandTimedOut and ConnectError instead of going on."""
        text = f"fence={self.fence}\n{text_of(names)}"
        if len(data) <= _WARM:
            seconds = 30 + len(data) / _SLOWEST
            answer = await self.machine.ask(text, (self.path, *args), data=data, seconds=seconds)
        else:
            async with self.machine.shell(text, (self.path, *args)) as process:
                answer = await collect(process, data)
        if answer.exit_code:
            raise refusal(answer, self.path, names)
        return answer.stdout


@cache
def text_of(names: str) -> str:
    """Scripts of ours, with what all that run in a session directory share."""
    return script("hosts/refuse", "agents/session", *map("agents/{}".format, names.split()))
