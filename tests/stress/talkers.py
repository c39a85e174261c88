"""Other terminals, which say words to agents whoever supervises them, or nobody."""

from __future__ import annotations

import random
import time
from collections import defaultdict

import anyio

from optio_agents import agents
from optio_agents.errors import InputClosed, OptioAgentsError
from optio_agents.hosts.host import make_host
from optio_agents.hosts.ssh.config import SSHConfig
from tests.stress.faults import Tally
from tests.stress.plans import Work


class Talkers:
    def __init__(self, tally: Tally) -> None:
        self.said = defaultdict[str, list[str]](list)  # by session, what its agent surely got
        self._tally = tally

    async def talk(self, work: Work, ssh: SSHConfig | None) -> None:
        """Say each word under a name of its own, again and again until it is surely said."""
        chance = random.Random(work.session)
        for number, word in enumerate(work.agent["words"]):
            due = work.begins + chance.random() * work.agent["life"]
            await anyio.sleep(max(0, due - time.time()))
            pause = 0.5
            while not await self._said(work, f"word-{number}", word, ssh):  # noqa: ASYNC110
                await anyio.sleep(pause := min(10, pause * 1.5))

    async def _said(self, work: Work, name: str, word: str, ssh: SSHConfig | None) -> bool:
        try:
            async with (
                make_host(ssh, taskdir=work.taskdir) as host,
                agents.adopt(host) as agent,
            ):
                agent.detach()
                await agent.say(f"{word}\n".encode(), name=name)
        except InputClosed:
            return True  # it was killed before
        except (OptioAgentsError, OSError) as error:
            self._tally.hit(f"talking: {type(error).__name__}")
            return False
        self.said[work.session].append(word)
        return True
