"""A supervisor of a real agent that ends itself with SIGKILL at a named step.

Nothing in the library knows these steps.

python -m tests.support.agents.killed PLAN.json
"""

# nothing in the library knows these steps

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from optio_agents.agents import Agent
from optio_agents.conversation import PermissionDecision
from optio_agents.conversation.wire_agent import AgentWire
from optio_agents.hosts.host import make_host
from optio_agents.store import Store
from optio_agents.supervision import Codex, Gemini, Kimi
from optio_agents.supervision.kinds.deciding import OwnerReach
from optio_agents.supervision.supervise import supervise

KINDS: dict[str, Any] = {"codex": Codex, "gemini": Gemini, "kimi": Kimi}
STEPS = (
    "before the prompt is looked for",
    "before a handshake is answered",
    "behind an answer of the handshake",
    "before the prompt is said",
    "behind the prompt",
    "before a request is shown",
    "before a decision is said",
    "behind a decision",
)
# Of a request that is denied with a reason, which these wires pass on as the next message.
DENIAL_STEPS = ("before a reason is kept", "behind a reason that is kept")


def die_around(
    kind: Any,
    method: str,
    before: Callable[[Any], bool],
    behind: Callable[[Any], bool] = lambda _: False,
) -> None:
    """Die where *method* of *kind* is called with such arguments, or has come to its end."""
    real = getattr(kind, method)

    async def call(self: Any, *args: Any, **more: Any) -> Any:
        if before(args):
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return await real(self, *args, **more)
        finally:  # also where it is not waited for any more
            if behind(args):
                os.kill(os.getpid(), signal.SIGKILL)

    setattr(kind, method, call)


def arm(step: str) -> None:
    """Die at *step*."""

    def handshake(args: Any) -> bool:
        return b'"method":' in args[1]  # and no decision

    die_around(Agent, "names_said", lambda _: step == STEPS[0])
    die_around(
        AgentWire,
        "answer",
        lambda args: step == STEPS[1 if handshake(args) else 6],
        lambda args: step == STEPS[2 if handshake(args) else 7],
    )
    die_around(AgentWire, "say", lambda _: step == STEPS[3], lambda _: step == STEPS[4])
    die_around(OwnerReach, "decide", lambda _: step == STEPS[5])

    def is_reason(args: Any) -> bool:
        return str(args[0]).startswith("reason-")

    die_around(
        Agent,
        "queue",
        lambda args: is_reason(args) and step == DENIAL_STEPS[0],
        lambda args: is_reason(args) and step == DENIAL_STEPS[1],
    )


async def main(plan: dict[str, Any]) -> None:
    arm(plan["step"])
    spec = KINDS[plan["agent"]](**plan["spec"])
    async with Store(Path(plan["journal"])) as store, make_host(taskdir=plan["taskdir"]) as host:
        await supervise(
            host,
            spec,
            store=store,
            session="killed",
            on_permission_request=lambda _: PermissionDecision(*plan["decision"]),
        )


if __name__ == "__main__":
    anyio.run(main, json.loads(Path(sys.argv[1]).read_text()))
