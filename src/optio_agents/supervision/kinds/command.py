"""Any program: each message is a line, or several, on its input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from optio_agents.errors import AgentError
from optio_agents.hosts.scripting import os_bytes
from optio_agents.protocol.prompt import compose_agents_md

from . import FIRST, Startup, check_program, say_once
from .named import ROWS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from optio_agents.agents import Agent
    from optio_agents.conversation.approvals import Served
    from optio_agents.conversation.contract import Attachment, PermissionDecision, PermissionRequest
    from optio_agents.conversation.dialect import PassageReader
    from optio_agents.framing.cursor import Cursor
    from optio_agents.hosts.environment import EnvBase
    from optio_agents.hosts.host import Host
    from optio_agents.supervision.events import AnswerOutcome, OpenRequest
    from optio_agents.supervision.recording import Recording

    from . import PermissionPolicy


@dataclass(frozen=True, slots=True)
class Command:
    """Any program. It is told how to use the log in front of its *prompt*, on its input.

    In a work directory of ours, AGENTS.md tells it as well. *reads_to_end*: it begins when its
    input has ended, so nobody can talk to it later, and its prompt promises no replies. With
    *prompt_in* "argument" that is so, too, and its prompt is its last argument, where all users of
    its host can read it.
    """

    kind: ClassVar[str] = "command"
    argv: Sequence[str]
    _: KW_ONLY
    prompt: str | None = None
    reads_to_end: bool = False
    prompt_in: Literal["input", "argument"] = "input"
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    env_base: EnvBase = "login"

    def __post_init__(self) -> None:
        if isinstance(self.argv, str) or not self.argv:
            raise ValueError("argv is a list of at least one argument")
        if self.prompt_in == "argument":
            object.__setattr__(self, "reads_to_end", True)

    @classmethod
    def named(
        cls,
        name: str,
        prompt: str,
        *,
        model: str | None = None,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Command:
        """A coding agent without a wire, by name: aider, amp, crush, cursor-agent, droid, goose.

        It is given its *prompt*, does all that it wants unasked, and ends. Raises ValueError.
        """
        row = ROWS.get(name)
        if row is None or row.kind != cls.kind:
            known = ", ".join(one.name for one in ROWS.values() if one.kind == cls.kind)
            raise ValueError(f"{name!r} is no program that is known by name: {known}")
        return cls(
            [*row.argv(None, model, options), *filter(None, [row.prompt])],
            prompt=prompt,
            reads_to_end=True,
            prompt_in="input" if row.prompt is None else "argument",
            env={**row.variables(model), **(env or {})},
        )


class CommandKind:
    """A program that speaks by its log alone."""

    name = "command"
    serves = False

    def program(self, spec: Command) -> str:
        return spec.argv[0]

    def reads_to_end(self, spec: Command) -> bool:
        return spec.reads_to_end

    async def check(self, host: Host, spec: Command) -> None:
        """Of a program that nobody here knows, the shell that starts it says so."""
        row = ROWS.get(spec.argv[0])
        if row is not None and row.kind == self.name:
            await check_program(host, row.name, spec.env, row.install)

    async def plan(
        self,
        host: Host,
        spec: Command,
        taught: str,
        *,
        logdirs: Sequence[str],
        served: Served | None,
    ) -> Startup:
        words = f"{taught}\n{spec.prompt}\n" if spec.prompt is not None else ""
        as_argument = words and spec.prompt_in == "argument"
        return Startup(
            (*spec.argv, words) if as_argument else tuple(spec.argv),
            spec.env,
            [(FIRST, words.encode())] if words and not as_argument else [],
            agents_md=compose_agents_md(spec.prompt or "", documentation=taught),
            ends_input=spec.reads_to_end,
        )

    def again(self, spec: Command, words: str, conversation: str | None) -> Command:
        return replace(spec, prompt="\n\n".join(filter(None, (words, spec.prompt))))

    def restored(self, name: str, data: Mapping[str, Any]) -> Command:
        return Command(**data)

    @asynccontextmanager
    async def connect(
        self, agent: Agent, recording: Recording, asking: PermissionPolicy
    ) -> AsyncIterator[CommandLink]:
        recording.stand("working")
        yield CommandLink(agent)

    def passages(self) -> PassageReader:
        from optio_agents.conversation.claude.stream_json import ClaudePassages  # what many print

        return ClaudePassages()

    def reach(self, agent: Agent, session: str, place: Cursor | None) -> CommandLink:
        return CommandLink(agent)


class CommandLink:
    """Its owner has no other way to it than everybody."""

    trouble = None
    controls = ()

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def send(
        self, name: str | None, text: str, attachments: Sequence[Attachment] = ()
    ) -> str:
        if attachments:
            raise ValueError("a plain program is told text alone: put the file on its host")
        return await say_once(self._agent, name, os_bytes(f"{text}\n"))

    async def steer(self, text: str) -> str:
        raise AgentError("a plain program has no turns to be steered: send it a message")

    async def interrupt(self) -> None:
        await self._agent.signal("INT")

    async def set_control(self, control_id: str, value: str) -> None:
        raise AgentError("nothing can be set of a plain program")

    async def requests(self) -> tuple[OpenRequest, ...]:
        return ()

    async def answer(
        self, request: PermissionRequest, decision: PermissionDecision, *, by: str
    ) -> AnswerOutcome:
        raise AgentError("a plain program asks for nothing")

    async def body(self, host: Any, hook: Any) -> object:
        return await self._agent.wait()

    async def underway(self) -> None:
        """It was told when it was started."""

    def busy(self) -> bool:
        return False

    def on_ending(self) -> None:
        """Programs end when they are done."""

    async def close(self) -> None:
        """Nor is there anything to ask of them."""


KIND = CommandKind()
