"""A language model as a participant: what it is; `model_loop` is how it works on a turn.

The wire formats are those of pydantic-ai, which the extra `[models]` brings; it is imported when
a team with a model in it is started.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from optio_agents.errors import missing_extra

from . import Participant
from .tools import Tool, ToolResult

if TYPE_CHECKING:
    from optio_agents.team.context import TurnContext
    from optio_agents.team.turn import Draft

Thinking: TypeAlias = Literal["minimal", "low", "medium", "high", "xhigh"] | bool


class Model(Participant):
    """A model with instructions; make it with `model`."""

    grace = 30.0  # seconds to sum up when the time of the tree is over

    def __init__(self, name: str, instructions: str, settings: Mapping[str, Any]) -> None:
        self.model, self.instructions, self._all = name, instructions, dict(settings)
        self.role = settings["role"] or instructions.strip().partition("\n")[0]
        self.tools: list[Any] = list(settings["tools"])
        self.shared = settings["shared"]
        self.base_url: str | None = settings["base_url"]
        self.credential: Any = settings["credential"]
        self.context_window: int | None = settings["context_window"]
        names = ("max_tokens", "temperature", "thinking", "extra")
        self.settings = {name: settings[name] for name in names if settings[name] is not None}
        self._client: Any = None

    def but(self, *, model: str = "", instructions: str = "", **changes: Any) -> Model:
        """The same with other values in some of what `model` takes."""
        if unknown := changes.keys() - self._all.keys():
            raise ValueError(f"a model has no {', '.join(sorted(unknown))}")
        settings = {**self._all, **changes}
        return Model(model or self.model, instructions or self.instructions, settings)

    def open(self, name: str) -> None:
        """Make its client, so that what is missing is told before anything starts."""
        if self._client is None:
            try:
                from .model_api import Client
            except ImportError as error:
                words = missing_extra("models", f"{name} is a model, which")
                raise ImportError(f"{words} ({error})") from error

            self._client = Client(self, name)

    async def answer(self, context: TurnContext) -> AsyncIterator[Draft]:
        from .model_loop import ModelTurn

        self.open(context.name)
        async for draft in ModelTurn(self, self._client, context).run():
            yield draft

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()


def model(
    name: str,
    instructions: str = "",
    *,
    role: str = "",
    tools: Sequence[Tool | Any] = (),
    shared: bool = False,
    base_url: str | None = None,
    credential: Any = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    thinking: Thinking | None = None,
    extra: Mapping[str, Any] | None = None,
    context_window: int | None = None,
) -> Model:
    """A model by "provider:name": openai, openai-chat, anthropic, google, what pydantic-ai has.

    *role* is the line that others see of it; *tools* are its own, beside those of the team. A
    *credential* not given is looked for in the environment of the provider. *extra* are fields of
    the request that have no name here; *context_window* (tokens) wins over what is known offline.
    """
    provider, colon, own = name.partition(":")
    if not (provider and colon and own):
        raise ValueError(f"{name!r} names no model: say it as provider:name")
    return Model(
        name,
        instructions,
        {
            "role": role,
            "tools": tools,
            "shared": shared,
            "base_url": base_url,
            "credential": credential,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "thinking": thinking,
            "extra": extra,
            "context_window": context_window,
        },
    )


class PeerTool(Tool):
    """A participant as a tool of another, under its own name."""

    def __init__(self, name: str, role: str) -> None:
        async def call(message: str, ctx: TurnContext) -> ToolResult:
            answer = await ctx.call(name, message)
            return ToolResult(answer.text, answer.text, answer.value, answer.attachments)

        call.__annotations__ = {"message": str}
        super().__init__(call, name=name, description=role or f"Ask {name}")
