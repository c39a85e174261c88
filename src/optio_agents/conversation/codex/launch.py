"""Start Codex's app-server as a detached, journaled agent, or take up one that runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Unpack

from optio_agents import agents
from optio_agents.conversation.machinery import AgentConversation, ConversationOptions
from optio_agents.conversation.wire_agent import converse

from .dialect import CodexDialect, CodexSetup
from .wire import Sandbox, initialize, message_of

if TYPE_CHECKING:
    from optio_agents.agents import Agent
    from optio_agents.framing.cursor import Cursor
    from optio_agents.hosts.environment import EnvBase
    from optio_agents.hosts.host import Host


FIRST_INPUT = ((f"{'0' * 20}-a", initialize()),)  # sorts in front of all that is named by the clock


@asynccontextmanager
async def codex(
    host: Host,
    *,
    cwd: str | None = None,
    model: str | None = None,
    sandbox: Sandbox = "workspace-write",
    instructions: str | None = None,
    continues: str | None = None,
    fork: bool = False,
    env: Mapping[str, str] | None = None,
    env_base: EnvBase = "login",
    executable: str = "codex",
    session_dir: str | None = None,
    meta: Mapping[str, object] | None = None,
    **options: Unpack[ConversationOptions],
) -> AsyncIterator[AgentConversation]:
    """Converse with a new Codex on *host*; leaving the block ends it.

    It asks for all that its *sandbox* would not let it do. *continues* goes on with a thread of
    its own (`conversation.session_id`), or with *fork* in a copy of it. Only `detach` leaves it
    running, for `codex_adopt`. Raises what `agents.start` raises.
    """
    where = await host.path(cwd or host.workdir)
    setup = CodexSetup(
        where,
        continues=continues,
        fork=fork,
        model=model,
        sandbox=sandbox,
        instructions=instructions,
    )
    async with (
        agents.start(
            host,
            [executable, "app-server"],
            cwd=cwd,
            env=env or {},
            env_base=env_base,
            session_dir=session_dir,
            name="codex",
            first_input=FIRST_INPUT,
            meta=meta,
        ) as agent,
        codex_adopt(agent, setup=setup, **options) as conversation,
        conversation.leaving(),
    ):
        yield conversation


@asynccontextmanager
async def codex_adopt(
    agent: Agent,
    *,
    cursor: Cursor | None = None,
    setup: CodexSetup | None = None,
    **options: Unpack[ConversationOptions],
) -> AsyncIterator[AgentConversation]:
    """Take up the conversation with a Codex that `codex` started, from its output.

    Events behind *cursor* are handed over, all of them without one. Open requests are offered
    again, answered ones are not. Leaving the block leaves the agent as it is. *setup* counts only
    where it has no thread yet.
    """
    dialect = CodexDialect(setup or CodexSetup(agent.cwd))
    options.setdefault("agent_label", "codex")
    conversation = AgentConversation(dialect, **options)
    async with converse(agent, conversation, message_of, cursor=cursor):
        yield conversation
