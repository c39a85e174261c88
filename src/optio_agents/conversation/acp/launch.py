"""Start an agent that speaks ACP as a detached, journaled one, or take up one that runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Unpack

from optio_agents import agents
from optio_agents.conversation.machinery import AgentConversation, ConversationOptions
from optio_agents.conversation.wire_agent import converse

from .dialect import AcpDialect, AcpSetup
from .wire import initialize, message_of

if TYPE_CHECKING:
    from optio_agents.agents import Agent
    from optio_agents.framing.cursor import Cursor
    from optio_agents.hosts.environment import EnvBase
    from optio_agents.hosts.host import Host


FIRST_INPUT = ((f"{'0' * 20}-a", initialize()),)  # sorts in front of all that is named by the clock


@asynccontextmanager
async def acp_agent(
    host: Host,
    argv: Sequence[str],
    *,
    cwd: str | None = None,
    continues: str | None = None,
    fork: bool = False,
    mode: str | None = None,
    env: Mapping[str, str] | None = None,
    env_base: EnvBase = "login",
    session_dir: str | None = None,
    meta: Mapping[str, object] | None = None,
    **options: Unpack[ConversationOptions],
) -> AsyncIterator[AgentConversation]:
    """Converse with a new agent on *host* that speaks ACP; leaving the block ends it.

    *continues* goes on with a session of its own (`conversation.session_id`), or with *fork* in a
    copy of it, *mode* chooses one of its modes instead of the one that asks. Only `detach` leaves
    it running, for `acp_agent_adopt`. Raises what `agents.start` raises.
    """
    options.setdefault("agent_label", argv[0].rpartition("/")[2])
    async with (
        agents.start(
            host,
            argv,
            cwd=cwd,
            env=env or {},
            env_base=env_base,
            session_dir=session_dir,
            name="acp",
            first_input=FIRST_INPUT,
            meta=meta,
        ) as agent,
        acp_agent_adopt(
            agent, continues=continues, fork=fork, mode=mode, **options
        ) as conversation,
        conversation.leaving(),
    ):
        yield conversation


@asynccontextmanager
async def acp_agent_adopt(
    agent: Agent,
    *,
    cursor: Cursor | None = None,
    continues: str | None = None,
    fork: bool = False,
    mode: str | None = None,
    **options: Unpack[ConversationOptions],
) -> AsyncIterator[AgentConversation]:
    """Take up the conversation with an agent that `acp_agent` started, from its output.

    Events behind *cursor* are handed over, all of them without one. Open requests are offered
    again, answered ones are not. Leaving the block leaves the agent as it is.
    """
    setup = AcpSetup(agent.cwd, continues=continues, fork=fork, mode=mode)
    options.setdefault("agent_label", "the agent")
    conversation = AgentConversation(AcpDialect(setup), **options)
    async with converse(agent, conversation, message_of, cursor=cursor):
        yield conversation
