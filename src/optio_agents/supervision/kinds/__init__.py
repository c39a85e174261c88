"""What an agent kind must give to be started, spoken to, and found again. One file for each.

A kind says how its agent is started (`plan`), how its owner goes along with it (`connect`), and how
anybody speaks to it who is not its owner (`reach`). It is known by its name, which our journal and
the session's own directory keep; nothing outside this package branches on that name.

Read `command` (the plainest), then what those have in common that one converses with: `reaching`
(anybody's way to it), `deciding` (its owner's, and what it asks), `conversing` (all else that its
owner does), `named` (by name, as data) and `passages` (what was said, once more); `claude`, `codex`
and `acp` are what differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from optio_agents.conversation.contract import tool_servers, variables_of
from optio_agents.errors import AgentError, NameTaken
from optio_agents.protocol.prompt import after_done, build_log_channel_prompt

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from optio_agents.agents import Agent
    from optio_agents.conversation.approvals import Served
    from optio_agents.conversation.contract import (
        Attachment,
        PermissionDecision,
        PermissionHandler,
        PermissionRequest,
    )
    from optio_agents.conversation.dialect import PassageReader
    from optio_agents.framing.cursor import Cursor
    from optio_agents.hosts.environment import EnvBase
    from optio_agents.hosts.host import Host
    from optio_agents.protocol.protocol import Protocol as LogProtocol
    from optio_agents.supervision.events import AnswerOutcome, OpenRequest
    from optio_agents.supervision.recording import Recording


KINDS = ("command", "claude", "acp", "codex")
SETUP = "setup"  # where in the meta of a session on its host `Startup.meta` is
PROMPTED = "prompted"  # in `Startup.meta`: its prompt was queued, and its owner says it
FIRST = f"{'0' * 20}-prompt"  # sorts in front of every message that is named by the clock


class AgentSpec(Protocol):
    """What is to be run. Values in *env* are stored nowhere."""

    @property
    def kind(self) -> str: ...
    @property
    def env(self) -> Mapping[str, str]: ...
    @property
    def env_base(self) -> EnvBase: ...


@dataclass(frozen=True, slots=True)
class Startup:
    """How an agent is started."""

    argv: Sequence[str]
    env: Mapping[str, str]
    first_input: Sequence[tuple[str, bytes]] = ()
    agents_md: str | None = None  # for a work directory of ours
    ends_input: bool = False  # behind the first input
    queued: Sequence[tuple[str, str, Sequence[Mapping[str, Any]]]] = ()  # when it can hear them
    meta: Mapping[str, object] = field(default_factory=dict)  # what a successor must know of it


class Reach(Protocol):
    """Speaking to an agent, whoever supervises it. Everything raises HostError, InputClosed."""

    async def send(
        self, name: str | None, text: str, attachments: Sequence[Attachment] = ()
    ) -> str:
        """Say *text* under *name*, once however often, and by whomever, this is asked for.

        Without a name each time counts. Returns the name. Raises ValueError for an attachment that
        it cannot be shown, as far as that is known now.
        """

    async def steer(self, text: str) -> str:
        """Say *text* into the turn that runs; returns its name.

        Raises AgentError where that cannot be.
        """

    async def interrupt(self) -> None:
        """End the turn that runs."""

    @property
    def controls(self) -> Sequence[str]:
        """What may be set of it while it runs."""

    async def set_control(self, control_id: str, value: str) -> None:
        """Set one of `controls`. Raises AgentError where it refuses, and ValueError."""

    async def requests(self) -> tuple[OpenRequest, ...]:
        """What it waits for, as it has said itself."""

    async def answer(
        self, request: PermissionRequest, decision: PermissionDecision, *, by: str
    ) -> AnswerOutcome:
        """Decide an open request; the first answer wins. Raises AgentError: it is not open."""


class AgentLink(Reach, Protocol):
    """One agent, as its owner goes along with it."""

    async def body(self, host: Any, hook: Any) -> object:
        """Return when the agent has ended, or has nothing to do any more."""

    async def underway(self) -> None:
        """Return as soon as it needs nobody to begin: it was told its prompt."""

    def busy(self) -> bool:
        """The agent waits for a person."""

    def on_ending(self) -> None:
        """How the session ends is settled: it need do no more."""

    @property
    def trouble(self) -> str | None:
        """Why its last turn failed, if it did."""

    async def close(self) -> None:
        """Let the agent end by itself, within a bound."""


@dataclass(frozen=True, slots=True)
class PermissionPolicy:
    """How permissions are decided, and what the agent calls is served."""

    handler: PermissionHandler | None = None
    timeout: float = 900.0  # seconds awake
    served: Served | None = None  # what the agent may call of ours


class AgentKind(Protocol):
    """One kind of agent."""

    @property
    def name(self) -> str: ...
    @property
    def serves(self) -> bool:
        """It can call tools and hooks of ours."""

    def program(self, spec: Any) -> str:
        """What people call it; further arguments may be nobody's business."""

    def reads_to_end(self, spec: Any) -> bool:
        """It begins when its input has ended: nobody can talk to it later."""

    async def check(self, host: Host, spec: Any) -> None:
        """Raises AgentError where its program is not on *host*, and says how to get it."""

    async def plan(
        self,
        host: Host,
        spec: Any,
        taught: str,
        *,
        logdirs: Sequence[str],
        served: Served | None,
    ) -> Startup:
        """How to start it on *host*, *taught* how to use its log, and of what is *served*.

        *logdirs* are the names of where that log is, the real one among them.
        """

    def again(self, spec: Any, words: str, conversation: str | None) -> Any:
        """*spec* for another start, which tells it *words*; in its own *conversation* if it can."""

    def restored(self, name: str, data: Mapping[str, Any]) -> Any:
        """The spec of the class *name* that `asdict` made *data* of.

        Raises TypeError, ValueError, KeyError.
        """

    def connect(
        self, agent: Agent, recording: Recording, asking: PermissionPolicy
    ) -> AbstractAsyncContextManager[AgentLink]:
        """Go along with *agent* while the block lasts; what it says is recorded."""

    def passages(self) -> PassageReader:
        """A reader of what such an agent has written, for a person."""

    def reach(self, agent: Agent, session: str, place: Cursor | None) -> Reach:
        """Speak to *agent* from outside; what it said before *place* is of no interest."""


def kind_named(name: str) -> AgentKind:
    """The kind of that name. Raises ValueError."""
    if name not in KINDS:
        raise ValueError(f"{name!r} is no kind of agent that this version knows")
    kind: AgentKind = import_module(f".{name}", __name__).KIND
    return kind


def dump_spec(spec: Any) -> tuple[str, dict[str, Any]]:
    """What `restored` makes *spec* of; but its attachments, which can be large, are not kept."""
    fields = asdict(spec)
    fields.pop("attachments", None)
    return type(spec).__name__, fields


def teach(host: Host, protocol: LogProtocol, *, replies: bool, checked: bool) -> str:
    """What the agent reads about its log; without *replies* where it could not hear them."""
    if protocol.documentation != build_log_channel_prompt(protocol.features):
        taught = protocol.documentation  # words of the caller's own
        return f"{taught}\n{after_done(replies=replies)}" if checked else taught
    return build_log_channel_prompt(
        protocol.features, replies=replies, logdir=host.logdir, checked=checked
    )


def first_message(
    text: str | None, attachments: Sequence[Attachment]
) -> Sequence[tuple[str, str, Sequence[Mapping[str, Any]]]]:
    """What `Startup.queued` has of a prompt, if there is one."""
    return [(FIRST, text, [one.dump() for one in attachments])] if text else []


def complete_spec(spec: Any) -> None:
    """What its MCP servers need is of the environment of *spec*, which is about to be made.

    Raises ValueError for servers, and for attachments, that cannot be.
    """
    if spec.attachments and not spec.prompt:
        raise ValueError("attachments go with a prompt")
    servers = tool_servers(spec.mcp_servers)
    object.__setattr__(spec, "mcp_servers", servers)
    object.__setattr__(spec, "env", {**variables_of(servers), **spec.env})


def setup_of(agent: Agent) -> Mapping[str, Any]:
    """What `Startup.meta` was. The agent could write there, too: look at what is in it."""
    found = agent.meta.get(SETUP)
    return found if isinstance(found, dict) else {}


def text_in(setup: Mapping[str, Any], name: str) -> str | None:
    """The text of that name in *setup*."""
    found = setup.get(name)
    return found if isinstance(found, str) and found else None


async def check_program(host: Host, program: str, env: Mapping[str, str], how: str) -> None:
    """Raises AgentError where *program* is not on *host*; *how* tells how to get it."""
    from optio_agents.agents.launch import SEARCHED, finds

    if not await finds(host, program, env):
        where = "here" if host.machine.is_local else f"on {host.machine.name}"
        raise AgentError(f"{program} is not installed {where} ({SEARCHED}): {how}")


async def say_once(agent: Agent, name: str | None, data: bytes) -> str:
    """Say *data*; under *name*, unless that was said before, maybe in other words."""
    # Another supervisor may have died between saying it and writing that down.
    with suppress(NameTaken):
        return await agent.say(data, name=name or None)
    assert name
    return name
