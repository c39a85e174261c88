"""How a model works on a turn: request, tools and verbs, until it finishes.

Every answer of the model and every result of a tool is recorded before it counts. So a turn that
was killed, or slept, builds the same log of messages from its records and goes on behind it: no
request is made twice, and a tool whose outcome nobody knows is not run again. What was sent to the
turn meanwhile enters before the next request.

A slot is held for a request and for a tool that runs, never while peers are waited for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import ModelAPIError, UnexpectedModelBehavior, UserError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from optio_agents.team.errors import LimitReached, ProviderFailed
from optio_agents.team.messages import Attachment, Message
from optio_agents.team.observing.events import Stepped, ToolCalled, ToolReturned
from optio_agents.team.turn import Draft
from optio_agents.team.verbs import Finished

from .budget import Budget
from .compaction import make_room
from .model_api import Client, ModelSpec, arguments_of, prompt, text_of
from .tools import Toolbox, ToolResult

if TYPE_CHECKING:
    from optio_agents.team.context import TurnContext

T = TypeVar("T")

_ASKED_AGAIN = 3  # times that an answer may miss the form that was wanted
_CUT = {"length", "content_filter", "error"}


class ModelTurn:
    """One turn of one model."""

    def __init__(self, spec: ModelSpec, client: Client, context: TurnContext) -> None:
        self._spec, self._client, self._context = spec, client, context
        self._kernel = context.kernel
        self._turn = context.turn
        self._budget = Budget(context)
        self._missed = 0  # answers that had not the form that was wanted
        self._log: list[ModelMessage] = []
        self._toolbox = Toolbox(context, spec.tools)

    async def run(self) -> AsyncIterator[Draft]:
        await self._begin()
        step = 0
        while True:
            step += 1
            await self._enter_mail()
            limit = self._budget.reached()
            if limit is not None:
                self._say(f"You have reached a limit ({limit}). Sum up what you have, briefly.")
            room = make_room(self._log, step, self._client, self._context, self._budget)
            self._log = await room
            draft = response = None
            async with aclosing(self._step(step, tools=limit is None)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, ModelResponse):
                        response = piece
                    else:
                        draft = piece
                        yield piece
            if response is None:  # the time was over
                continue
            self._log.append(response)
            uses = [part for part in response.parts if isinstance(part, ToolCallPart)]
            text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
            if limit is not None:
                _close(draft, self._message(text))
                raise LimitReached(str(limit), limit=limit.limit, turn=self._turn.id)
            if uses:
                _close(draft, None)
                finished = await self._use(step, uses)
                if finished is not None:
                    yield _said(self._message(finished.text, finished))
                    return
            elif self._takes(response, draft, text):
                return

    async def _begin(self) -> None:
        """Count what was used before, and build the log up to the first request."""
        await self._budget.begin(self._used_before())
        unpriced = self._budget.unpriced(self._spec.model)
        if unpriced is not None and not self._client.priced:
            raise unpriced
        message = self._context.message
        self._log = [*await self._history(), ModelRequest(parts=[prompt(message)])]

    def _takes(self, response: ModelResponse, draft: Draft | None, text: str) -> bool:
        """Whether *text* is the answer; else it is asked for again. Raises ProviderFailed."""
        context = self._context
        if response.finish_reason in _CUT or not response.parts:
            _close(draft, None)
            raise ProviderFailed(
                f"{context.name} (turn {context.id}): {self._spec.model} did not complete its "
                f"answer: {response.finish_reason or 'it is empty'}",
                turn=context.id,
            )
        wrong = self._turn.misfit(text)
        if wrong is None or self._missed == _ASKED_AGAIN:
            _close(draft, self._message(text))
            return True
        self._missed += 1
        _close(draft, None)
        self._say(f"That does not have the form that is wanted: {wrong}. Answer again.")
        return False

    # Requests

    async def _step(self, step: int, *, tools: bool) -> AsyncGenerator[Draft | ModelResponse]:
        """One answer of the model: what is said of it as it comes, then the whole."""
        context, turn, key = self._context, self._turn, f"step:{step}"
        kept = context.claim.records.get(key)
        if kept is not None:
            [before] = ModelMessagesTypeAdapter.validate_python(kept)
            assert isinstance(before, ModelResponse)
            if words := [part.content for part in before.parts if isinstance(part, TextPart)]:
                yield _said(None, *words)
            yield before
            return
        hooks = self._kernel.hooks
        if hooks:
            await hooks.run("before_step", turn, step)
            self._log = await hooks.change("before_model", turn, self._log)
        response: ModelResponse | None = None
        async with aclosing(self._stream(tools=tools)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Draft):
                    yield piece
                else:
                    response = piece
        if response is None:
            return
        if hooks:
            response = await hooks.change("after_model", turn, response)
        tokens = response.usage.total_tokens
        await context.record(key, ModelMessagesTypeAdapter.dump_python([response], mode="json"))
        self._budget.add(tokens, self._client.price(response))
        turn.emit(Stepped, step, tokens)
        if hooks:
            await hooks.run("after_step", turn, step)
        yield response

    async def _stream(self, *, tools: bool) -> AsyncGenerator[Draft | ModelResponse]:
        """One request: the draft of what is said, when it begins, and the answer at its end."""
        context, turn, draft = self._context, self._turn, None
        try:
            async with self._kernel.slots:
                with self._kernel.tracing.chat(self._spec.model) as span:
                    # the time is bounded between the events, as whoever reads us shares our task
                    async with AsyncExitStack() as stack:
                        request = stack.enter_async_context(self._request(tools=tools))
                        stream = await self._in_time(request, bounded=tools)
                        events = aiter(stream)
                        while event := await self._in_time(anext(events, None), bounded=tools):
                            if text := text_of(event):
                                if draft is None:
                                    draft = Draft()
                                    yield draft
                                draft.put(text)
                                turn.put_token(text)
                    response = stream.get()
                    self._kernel.tracing.answered(span, response)
            yield response
        except TimeoutError:
            _close(draft, None)
        except (ModelAPIError, UnexpectedModelBehavior, UserError, NotImplementedError) as error:
            _close(draft, None)
            raise ProviderFailed(
                f"{context.name} (turn {context.id}): {self._spec.model}: {error}", turn=context.id
            ) from error
        except BaseException:
            _close(draft, None)
            raise

    async def _in_time(self, work: Awaitable[T], *, bounded: bool) -> T:
        """Wait for *work* while there is time left for the tree. Raises TimeoutError."""
        left = self._budget.left()
        if not bounded or left == float("inf"):
            return await work
        async with asyncio.timeout(left):
            return await work

    def _request(self, *, tools: bool) -> Any:
        settings = {**self._spec.settings, **self._context.options.get("settings", {})}
        if extra := settings.pop("extra", None):
            settings["extra_body"] = dict(extra)
        definitions = [
            ToolDefinition(name=name, description=words, parameters_json_schema=parameters)
            for name, words, parameters in (self._toolbox if tools else ())
        ]
        instructions = self._instructions()
        log = list(self._log)
        for index in range(len(log) - 1, -1, -1):
            message = log[index]
            if isinstance(message, ModelRequest):
                log[index] = ModelRequest(parts=message.parts, instructions=instructions)
                break
        return model_request_stream(
            self._client.model,
            log,
            model_settings=cast("ModelSettings", settings),
            model_request_parameters=ModelRequestParameters(function_tools=definitions),
        )

    def _instructions(self) -> str:
        context, calls = self._context, self._kernel.calls
        options = context.options
        told = [f"You are {context.name}, a participant of a team."]
        told += [self._spec.instructions, calls.instructions]
        told += [options.get("everyone", ""), options.get("instructions", "")]
        if others := calls.others(context):
            told.append(
                "You can call the others, several in one reply to have them work at the same "
                "time:\n" + "\n".join(others)
            )
        if wanted := options.get("returns"):
            told.append(f"Answer with JSON of this schema and nothing else: {json.dumps(wanted)}")
        return "\n\n".join(part for part in told if part)

    # What is said to it

    async def _history(self) -> list[ModelMessage]:
        context = self._context
        said = list(context.history)
        if self._spec.shared:
            for row in await self._kernel.store.look(name=context.name, states=["completed"]):
                said.append(Message.load(row.message))
                kept = (row.result or {}).get("messages", ())
                said += map(Message.load, kept)
        own = {message.to for message in said[:1]} | {context.name, "assistant"}
        log: list[ModelMessage] = []
        for message in said:
            if message.kind == "return" and message.sender in own:
                log.append(ModelResponse(parts=[TextPart(message.text)]))
            elif message.kind == "forward" and message.to in own:
                log.append(ModelRequest(parts=[prompt(message)]))
        return log

    async def _enter_mail(self) -> None:
        for message in await self._context.messages():
            self._say(f"{message.sender} says: {message.text}", message.attachments)

    def _say(self, text: str, attachments: Sequence[Attachment] = ()) -> None:
        part = prompt(Message(text, attachments=tuple(attachments)))
        last = self._log[-1]
        if isinstance(last, ModelRequest):
            self._log[-1] = ModelRequest(parts=[*last.parts, part])
        else:
            self._log.append(ModelRequest(parts=[part]))

    def _used_before(self) -> dict[str, float]:
        """By an earlier run of this turn."""
        kept = [v for k, v in self._context.claim.records.items() if k.startswith("step:")]
        steps = [one for [one] in map(ModelMessagesTypeAdapter.validate_python, kept)]
        answers = [one for one in steps if isinstance(one, ModelResponse)]
        prices = [self._client.price(one) for one in answers]
        tokens = float(sum(one.usage.total_tokens for one in answers))
        used = {"steps": float(len(answers)), "tokens": tokens}
        return used | {"usd": sum(one for one in prices if one is not None)} if kept else {}

    def _message(self, text: str, like: Message | None = None) -> Message:
        turn = self._turn
        return (like or Message()).but(
            text=text, kind="return", sender=turn.name, to=turn.message.sender, turn=turn.id
        )

    # Tools

    async def _use(self, step: int, uses: Sequence[ToolCallPart]) -> Message | None:
        """Run all of one reply together and put their results into the log, in order."""
        work = [self._one(f"{step}:{one.tool_call_id}", one) for one in uses]
        outcome = await asyncio.gather(*map(self._finished, work), return_exceptions=True)
        finished = next((one.message for one in outcome if isinstance(one, Finished)), None)
        parts: list[Any] = []
        files: list[Any] = []
        for asked, result in zip(uses, outcome, strict=True):
            if isinstance(result, Finished):
                continue
            if isinstance(result, BaseException):
                raise result
            parts.append(ToolReturnPart(asked.tool_name, result.text, asked.tool_call_id))
            if result.attachments:
                words = f"The files that {asked.tool_name} gave:"
                files.append(prompt(Message(words, attachments=result.attachments)))
        if finished is None:
            self._log.append(ModelRequest(parts=[*parts, *files]))
        return finished

    async def _finished(self, work: Awaitable[ToolResult]) -> ToolResult:
        try:
            return await self._in_time(work, bounded=True)
        except TimeoutError:
            return ToolResult("error: the time was over before this was done")

    async def _one(self, key: str, asked: ToolCallPart) -> ToolResult:
        name, turn = asked.tool_name, self._turn
        new = f"used:{key}" not in self._context.claim.records
        try:
            arguments = arguments_of(asked)
        except ValueError as error:
            asked.args = {"invalid": str(asked.args)}
            return ToolResult(f"error: the arguments of {name} are no JSON: {error}")
        asked.args = arguments
        hooks = self._kernel.hooks
        if hooks:
            arguments = await hooks.change("before_tool", turn, arguments, tool=name)
        if new:
            turn.tools.append(name)
            turn.emit(ToolCalled, name, dict(arguments))
        history = self._as_messages() if arguments.get("history") else ()
        with self._kernel.tracing.tool(name, asked.tool_call_id):
            result = await self._toolbox.use(name, arguments, key=key, history=history)
        if hooks:
            result = await hooks.change("after_tool", turn, result, tool=name)
        await self._context.record(f"used:{key}", True)
        if new:
            shown = result.display or result.text
            turn.emit(ToolReturned, name, result.text, shown, result.failed)
        return result

    def _as_messages(self) -> tuple[Message, ...]:
        """The log so far, to be handed to a peer."""
        name, found = self._context.name, list[Message]()
        for message in self._log:
            for part in message.parts:
                if isinstance(part, UserPromptPart) and isinstance(part.content, str):
                    found.append(Message(part.content, "forward", "user", name))
                elif isinstance(part, TextPart):
                    found.append(Message(part.content, "return", name, "user"))
        return tuple(found)


def _said(message: Message | None, *words: str) -> Draft:
    draft = Draft()
    for word in words or ((message.text,) if message else ()):
        draft.put(word)
    draft.message = message
    if message is not None:
        draft.close()
    return draft


def _close(draft: Draft | None, message: Message | None) -> None:
    if draft is not None:
        draft.message = message
        draft.close()
