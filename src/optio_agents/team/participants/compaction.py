"""A log that fills the context window of its model is summed up by it.

Only whole exchanges go, so that no result of a tool is parted from its use, and the last ones
stay. What was said instead is recorded: a turn that runs again goes on with the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolReturnPart,
    UserPromptPart,
)

if TYPE_CHECKING:
    from optio_agents.team.context import TurnContext

    from .budget import Budget
    from .model_api import Client

_FULL, _TAIL = 0.8, 0.4  # shares of the context window: when it is summed up, and what is kept


async def make_room(
    log: list[ModelMessage], step: int, client: Client, context: TurnContext, budget: Budget
) -> list[ModelMessage]:
    """*log*, or a shorter one that says the same before the request *step*."""
    window = client.window
    if not window or _size_of(log) < _FULL * window or len(log) < 3:
        return log
    cut, size = len(log) - 1, _size_of(log[-1:])
    while cut > 0 and (size < _TAIL * window or not _begins(log[cut])):
        cut -= 1
        size += _size_of(log[cut : cut + 1])
    if cut == 0:
        cut = next((n for n in range(len(log) - 1, 0, -1) if _begins(log[n])), 0)
    if cut == 0:
        return log
    key = f"summary:{step}"
    summary = context.claim.records.get(key)
    if summary is None:
        words, summary = _words_of(log[:cut]), ""
        room = max(1, int(_FULL / 2 * window * 4))
        for start in range(0, len(words), room):
            part = f"{summary}\n\n{words[start : start + room]}"
            summary = await _sum_up(part, client, context, budget)
        summary = await context.record(key, summary)
    first = ModelRequest(parts=[UserPromptPart(f"What was said before, summed up: {summary}")])
    return [first, ModelResponse(parts=[TextPart("I know.")]), *log[cut:]]


async def _sum_up(words: str, client: Client, context: TurnContext, budget: Budget) -> str:
    ask = "Sum up this conversation in a few sentences, with all facts that matter:\n\n"
    request = [ModelRequest(parts=[UserPromptPart(ask + words)])]
    kernel = context.kernel
    async with kernel.slots:
        with kernel.tracing.chat(client.name) as span:
            async with model_request_stream(client.model, request) as stream:
                async for _ in stream:
                    pass
            response = stream.get()
            kernel.tracing.answered(span, response)
    budget.add(response.usage.total_tokens, client.price(response))
    return "".join(part.content for part in response.parts if isinstance(part, TextPart))


def _begins(message: ModelMessage) -> bool:
    """Whether an exchange begins here, so that no result is parted from its use."""
    return isinstance(message, ModelRequest) and not any(
        isinstance(part, ToolReturnPart) for part in message.parts
    )


def _words_of(log: Sequence[ModelMessage]) -> str:
    lines = []
    for message in log:
        for part in message.parts:
            content = getattr(part, "content", None) or getattr(part, "args", "")
            lines.append(f"{part.part_kind}: {content}")
    return "\n".join(lines)


def _size_of(log: Sequence[ModelMessage]) -> int:
    """Tokens, about."""
    return len(_words_of(log)) // 4
