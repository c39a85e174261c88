"""What a coding agent asks of its team: the verbs and tools, and what it wants to be allowed.

It has them over its own stream where it can. Each use has a name there, and the call it makes is
known by that: one that is open when we die is the same call for whoever adopts the agent. Other
agents write a line into their log, and read the answer in their input.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optio_agents.team.context import is_yes
from optio_agents.team.messages import Message
from optio_agents.team.verbs import VERBS, Finished

from .tools import Toolbox, ToolResult

if TYPE_CHECKING:
    from optio_agents.conversation.contract import PermissionDecision, PermissionRequest
    from optio_agents.team.context import TurnContext


SERVER = "optio"  # what an agent knows us as, where we are an MCP server


@dataclass(frozen=True, slots=True)
class StreamTool:
    """What an agent can use over its own stream; *use* is told its name for this use."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    use: Callable[[str, Mapping[str, Any], str], Awaitable[ToolResult]]

    async def call(self, arguments: Mapping[str, Any], *, id: str) -> ToolResult:  # noqa: A002
        return await self.use(self.name, arguments, id)


class AgentVerbs:
    """Of one turn; `open` are the uses that are not answered, `finished` is its last word."""

    def __init__(self, context: TurnContext) -> None:
        self._context, self._toolbox, self.open = context, Toolbox(context), 0
        kept = context.claim.records.get("finished")  # by an earlier run, which was killed then
        self.finished = None if kept is None else Message.load(kept)
        self.over = asyncio.Event()  # it has said its last word by a verb

    def tools(self) -> list[StreamTool]:
        """What the agent has over its stream."""
        return [StreamTool(*each, self._use_tool) for each in self._toolbox]

    async def _use_tool(self, name: str, arguments: Mapping[str, Any], key: str) -> ToolResult:
        key = key if name in self._toolbox.tools else f"use:{key}"
        return await self._use(name, arguments, key) or ToolResult("Your work is ended.")

    async def _use(self, name: str, arguments: Mapping[str, Any], key: str) -> ToolResult | None:
        """What came of it; None for its last word."""
        self.open += 1
        try:
            return await self._toolbox.use(name, arguments, key=key)
        except Finished as finished:
            kept = await self._context.record("finished", finished.message.dump())
            self.finished = Message.load(kept)
            self.over.set()
            return None
        finally:
            self.open -= 1

    async def by_line(self, hook: Any, verb: str, data: object) -> str | None:
        """The agent uses a verb by a line of its log; the answer goes into its input."""
        if verb not in VERBS:
            return f"{verb}: there is no such verb: there are {', '.join(VERBS)}"
        arguments = dict(data) if isinstance(data, Mapping) else {}
        name = arguments.pop("id", None) or json.dumps([verb, arguments], sort_keys=True)
        result = await self._use(verb, arguments, f"line:{name}")
        return None if result is None else f"{verb}: {result.text}"

    async def permit(self, request: PermissionRequest) -> PermissionDecision:
        from optio_agents.conversation.contract import PermissionDecision

        if request.tool_name == "other" and request.input.get("title") in self._titles():
            return PermissionDecision("allow")  # whom it may call is decided by the team
        question = f"{self._context.name}: {request.tool_name} {json.dumps(request.input)}"
        key = request.names[0] if request.names else request.id
        answer = await self._context.ask(question, key=f"permission:{key}")
        if is_yes(answer):
            return PermissionDecision("allow")
        return PermissionDecision("deny", message=answer.text or "no")

    def _titles(self) -> set[str]:
        """What an agent that has us as an MCP server, and asks first, calls a use of ours."""
        served = "mcp" in self._context.claim.records
        return {f"mcp__{SERVER}__{tool.name}" for tool in self.tools()} if served else set()


def how_to_call(context: TurnContext, *, by_tools: bool, by_server: bool) -> str:
    """What it is told of the others."""
    roles = "\n".join(context.kernel.calls.others(context))
    if not roles:
        return ""
    words = "You work with others. "
    if by_tools or by_server:
        words += "Your tool `call` gives one of them work. "
    if by_tools:
        return f"{words}There are:\n{roles}"
    words += "Where you have no such tool: to give " if by_server else "To give "
    return (
        f"{words}one of them work, append this line to your log and end "
        "your turn; the answer comes as a message:\n"
        'CALLER_MESSAGE: call {"name": "…", "message": "…", "id": "a name of this call"}\n'
        'To tell your caller something: CALLER_MESSAGE: send {"to": "caller", "message": "…"}\n'
        f"There are:\n{roles}"
    )
