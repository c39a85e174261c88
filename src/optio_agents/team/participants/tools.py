"""Typed functions as tools: the schema comes from the signature, the words from the docstring.

A `Toolbox` is all that one turn may use, whoever works on it: the verbs, and the tools.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, overload

from optio_agents.schemas import arguments_model, schema_of
from optio_agents.team.context import is_yes
from optio_agents.team.errors import CallFailed, OutcomeUnknown, TeamError
from optio_agents.team.messages import Attachment, Message, freeze, plain
from optio_agents.team.verbs import VERBS, Finished, dispatch, schema

from . import Participant

if TYPE_CHECKING:
    from optio_agents.team.context import TurnContext


@dataclass(frozen=True)
class ToolResult:
    """What a tool gives: *text* for the model, *display* for a person, *value* for programs."""

    text: str
    display: str = ""
    value: Any = None
    attachments: tuple[Attachment, ...] = ()

    @property
    def failed(self) -> bool:
        """It says what went wrong, to whoever asked for it."""
        return self.text.startswith("error: ")

    def dump(self) -> dict[str, Any]:
        files = [attachment.dump() for attachment in self.attachments]
        return {
            "text": self.text,
            "display": self.display,
            "value": plain(self.value),
            "attachments": files,
        }

    @classmethod
    def load(cls, kept: Mapping[str, Any]) -> ToolResult:
        files = tuple(map(Attachment.load, kept["attachments"]))
        return cls(kept["text"], kept["display"], freeze(kept["value"]), files)


class ToolRefused(TeamError):
    """The tool was not run; the message says why, to whoever asked for it."""


class Tool(Participant):
    """A function that models may use and anybody may call as a turn."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str = "",
        description: str = "",
        parameters: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        alone: bool = False,
        ask: bool = False,
        fixed: Mapping[str, Any] | None = None,
    ) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)
        words = inspect.getdoc(function) or ""
        self.description = description or words.partition("\nArgs:")[0].strip()
        self.role = self.description.partition("\n")[0]
        self.timeout, self.ask, self.fixed = timeout, ask, dict(fixed or {})
        self._alone = asyncio.Lock() if alone else None
        self._raw = parameters
        self.signature = inspect.signature(function)
        self._words = words

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **{**self.fixed, **kwargs})

    def names(self) -> list[str]:
        """Its parameters, without what the team gives it."""
        return [name for name in self.signature.parameters if name != "ctx"]

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The JSON schema of the arguments."""
        if self._raw is not None:
            return dict(self._raw)
        return schema_of(self._model)

    @cached_property
    def _model(self) -> Any:
        return arguments_model(
            self.function, self._words, without=frozenset({"ctx"}), fixed=self.fixed
        )

    def checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """*arguments* as the function wants them. Raises ToolRefused, which says what is wrong."""
        from pydantic import ValidationError

        if self._raw is not None:
            return {**self.fixed, **arguments}
        try:
            model = self._model.model_validate(dict(arguments))
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
            )
            raise ToolRefused(f"{self.name} was not run: {wrong}") from None
        return {name: getattr(model, name) for name in type(model).model_fields}

    @property
    def waits(self) -> bool:
        """It is given the turn, and may wait for others in its name."""
        return "ctx" in self.signature.parameters

    async def run(self, context: TurnContext | None, arguments: Mapping[str, Any]) -> ToolResult:
        """Run it, when it is allowed. Raises ToolRefused, and whatever the function raises."""
        return await self.run_allowed(await self.allow(context, arguments))

    async def allow(
        self, context: TurnContext | None, arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the function is to be given. Raises ToolRefused."""
        given = self.checked(arguments)
        if self.ask and context is not None:
            answer = await context.ask(f"{self.name} {plain(arguments)}")
            if not is_yes(answer):
                raise ToolRefused(f"{self.name} was not allowed: {answer.text}")
        return {**given, "ctx": context} if self.waits else given

    async def run_allowed(self, given: Mapping[str, Any]) -> ToolResult:
        async with self._alone or nullcontext():
            bound = asyncio.timeout(self.timeout)
            try:
                async with bound:
                    if inspect.iscoroutinefunction(self.function) or "ctx" in given:
                        value = self.function(**given)
                    else:
                        value = await asyncio.to_thread(self.function, **given)
                    if inspect.isawaitable(value):
                        value = await value
            except TimeoutError:
                if not bound.expired():
                    raise
                words = f"{self.name} was not done within {self.timeout} seconds"
                raise TimeoutError(words) from None
        return as_result(value)

    async def answer(self, context: TurnContext) -> Message:
        """As a participant: the arguments are the value of the message, or its text the first."""
        value = context.message.value
        if isinstance(value, Mapping):
            arguments = dict(value)
        elif isinstance(value, tuple):
            arguments = dict(zip(self.names(), value, strict=False))
        else:
            first = self.names()[:1] if context.text or value is not None else []
            arguments = dict.fromkeys(first, context.text or value)
        result = await self.run(context, arguments)
        return Message(result.text, value=result.value, attachments=result.attachments)


def as_result(value: Any) -> ToolResult:
    if isinstance(value, ToolResult):
        return value
    if isinstance(value, Message):
        return ToolResult(value.text, value.text, value.value, value.attachments)
    if isinstance(value, Attachment):
        return ToolResult(value.name or value.media_type, attachments=(value,))
    if isinstance(value, list | tuple) and any(isinstance(one, Attachment) for one in value):
        files = tuple(one for one in value if isinstance(one, Attachment))
        words = "\n".join(str(one) for one in value if not isinstance(one, Attachment))
        return ToolResult(words, attachments=files)
    if isinstance(value, str):
        return ToolResult(value, value, value)
    import json

    text = "" if value is None else json.dumps(plain(value), ensure_ascii=False)
    return ToolResult(text, text, freeze(plain(value)))


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *,
    name: str = "",
    timeout: float | None = None,
    alone: bool = False,
    ask: bool = False,
    **fixed: Any,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    timeout: float | None = None,
    alone: bool = False,
    ask: bool = False,
    **fixed: Any,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a typed function a tool.

    *timeout* in seconds; *alone*: never twice at once; *ask*: the approver is asked each time;
    *fixed* arguments hold where a call gives none.
    """

    def make(function: Callable[..., Any]) -> Tool:
        return Tool(function, name=name, timeout=timeout, alone=alone, ask=ask, fixed=fixed)

    return make if function is None else make(function)


def skills(folder: str | Path) -> list[Tool]:
    """A tool that reads the skills in *folder*: each a directory with a SKILL.md."""
    return [_Skills(Path(folder).expanduser())]


async def use(
    tool: Tool, context: TurnContext, arguments: Mapping[str, Any], *, key: str
) -> ToolResult:
    """Run it for a turn, once for each *key*; what goes wrong is an error text for who asked.

    One that may wait for others runs again after a crash, as functions do; any other one takes up
    a place among what runs at once, and is not repeated.
    """
    name = f"tool:{key}"
    if (kept := context.claim.records.get(name)) is not None:
        return ToolResult.load(kept)

    async def run() -> dict[str, Any]:
        try:
            async with nullcontext() if tool.waits else context.kernel.slots:
                return (await tool.run_allowed(given)).dump()
        except (ToolRefused, CallFailed) as error:
            return ToolResult(f"error: {error}").dump()
        except Exception as error:
            words = f"error: {tool.name} failed: {type(error).__name__}: {error}"
            return ToolResult(words).dump()

    try:
        given = await tool.allow(context.within(name), arguments)
        if tool.waits:
            return ToolResult.load(await context.record(name, await run()))
        return ToolResult.load(await context.once(name, run))
    except (ToolRefused, OutcomeUnknown) as error:
        return ToolResult(f"error: {error}")


class Toolbox:
    """What a turn may use: the verbs, the tools of its team, and those of its participant."""

    def __init__(self, context: TurnContext, own: Sequence[Tool] = ()) -> None:
        calls = context.kernel.calls
        self._context = context
        self.tools: dict[str, Tool] = {tool.name: tool for tool in (*calls.tools, *own)}
        self._verbs = [v for v in VERBS if v not in calls.without and v not in self.tools]

    def __iter__(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Each of them: its name, what it is for, and the JSON schema of its arguments."""
        for verb in self._verbs:
            yield verb, VERBS[verb][0], schema(verb)
        for tool in self.tools.values():
            yield tool.name, tool.description, tool.parameters

    async def use(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        key: str,
        history: tuple[Message, ...] = (),
    ) -> ToolResult:
        """Once for each *key*; what goes wrong is an error text. Raises Finished."""
        tool = self.tools.get(name)
        if tool is not None:
            result = await use(tool, self._context, arguments, key=key)
            if name == "finish" and not result.failed:
                raise Finished(Message(result.text, value=result.value))
            return result
        if name in self._verbs:
            return ToolResult(
                await dispatch(self._context, name, arguments, key=key, history=history)
            )
        known = ", ".join([*self._verbs, *self.tools])
        return ToolResult(f"error: {self._context.name} has no tool {name!r}: it has {known}")


class _Skills(Tool):
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        super().__init__(self._read, name="skill")

    @property
    def description(self) -> str:
        lines = [f"- {name}: {line}" for name, line in self._found()]
        return "Read how something is done here, before you do it:\n" + "\n".join(lines)

    @description.setter
    def description(self, words: str) -> None: ...

    def _found(self) -> Iterator[tuple[str, str]]:
        for path in sorted(self._folder.glob("*/SKILL.md")):
            text = path.read_text("utf-8", "replace")
            found = re.search(r"^description:\s*(.+)$", text, re.MULTILINE)
            body = [line for line in text.splitlines() if line.strip(" #-")]
            yield path.parent.name, found[1] if found else (body or [""])[0].lstrip("# ")

    async def _read(self, name: Annotated[str, "The name of the skill"]) -> str:
        if name not in dict(self._found()):
            raise ToolRefused(f"there is no skill {name!r}")
        path = self._folder / name
        return f"(in {path})\n{(path / 'SKILL.md').read_text('utf-8', 'replace')}"
