"""What must be known of a session to find it again: kept in our journal and on its host."""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optio_agents.agents.launch import Start
from optio_agents.errors import (
    AgentError,
    AgentUnseen,
    FileRefused,
    WorkDirRefused,
)
from optio_agents.hosts.environment import credentials_in
from optio_agents.hosts.host import Host, make_host
from optio_agents.hosts.machine import ProcessId
from optio_agents.hosts.workdir import Worktree
from optio_agents.protocol.features import ProtocolFeatures
from optio_agents.store.records import StoredSession, is_session_id

from .kinds import KINDS, kind_named

if TYPE_CHECKING:
    from collections.abc import Callable

    from optio_agents.agents import Agent
    from optio_agents.hosts.machine import Machine
    from optio_agents.hosts.ssh.config import SSHConfig
    from optio_agents.store import Store
    from optio_agents.store.records import SessionRecords, StoredSession

    from .kinds import AgentSpec


_LATEST = 1 << 33  # seconds since the epoch: a calendar knows what comes before
_TITLE = 500  # characters of one that a host says

TASKS = "~/.local/state/optio-agents/tasks"
"""The directory of ours, on whichever host, that holds a task directory for each session."""


def new_session_id() -> str:
    """One that no other session has."""
    return secrets.token_hex(4)


def task_directory(session: str) -> str:
    """Where a session lives on its host, unless its user has other plans."""
    return f"{TASKS}/{session}"


def owner_name() -> str:
    """Who we are, for whoever is refused."""
    return f"process {os.getpid()} on {platform.node()}"


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it is text and numbers; the values of an environment are not among it."""

    agent: str  # the name of its kind
    program: str  # its name; further arguments may be nobody's business
    title: str = ""
    name: str = ""  # what its user calls it wherever an id is asked for; only our journal knows
    cwd: str | None = None  # a directory of the user's; without one the work directory is ours
    logdir: str | None = None  # without one, the log of up to version 0.3.2 is in `cwd` itself
    ssh: Mapping[str, Any] | None = None  # an SSHConfig; None is this machine
    features: Mapping[str, Any] | None = None  # of the protocol that the agent was taught
    hidden: tuple[str, ...] = ()  # names of variables whose values are not to be shown
    reads_to_end: bool = False
    journal: str = ""  # who may reclaim the session at once; only our journal knows
    rules: Mapping[str, Any] = field(default_factory=dict)  # options that outlive a supervisor
    notes_start: bool = False  # and it knows when the agent was about to be started: see `starts`
    worktree: Mapping[str, str] | None = None  # a `Worktree` of ours; only our journal knows

    @classmethod
    def of(
        cls,
        host: Host,
        spec: AgentSpec,
        *,
        title: str,
        name: str,
        features: ProtocolFeatures,
        rules: Mapping[str, Any] | None = None,
        worktree: Worktree | None = None,
    ) -> Facts:
        """Those of a session that is about to begin."""
        kind = kind_named(spec.kind)
        return cls(
            agent=kind.name,
            program=kind.program(spec),
            title=title,
            name=name,
            cwd=None if host.own_workdir else host.workdir,
            logdir=None if host.own_workdir else host.logdir,
            ssh=_ssh_of(host),
            features=asdict(features),
            hidden=tuple(credentials_in(spec.env)),
            reads_to_end=kind.reads_to_end(spec),
            rules=rules or {},
            journal=secrets.token_hex(8),
            notes_start=True,
            worktree=None if worktree is None else asdict(worktree),
        )

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Facts:
        """From what `asdict` gave, maybe of another version of us, maybe on a host.

        Raises ValueError for what cannot be one's facts.
        """
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in data.items()
            if name in _SHAPES
        }
        if "agent" not in known or "program" not in known:
            raise ValueError("these are not the facts of a session")
        for name, value in known.items():
            if not _SHAPES[name](value):
                raise ValueError(f"no session has such a {name}: {str(value)[:80]!r}")
        return cls(**known)

    def for_the_host(self) -> dict[str, Any]:
        """As the session's own directory keeps them: readable by whoever can read that."""
        ours = {"name": "", "journal": "", "ssh": None, "notes_start": False, "worktree": None}
        return {**asdict(self), **ours}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_directory(value: object) -> bool:
    return value is None or (
        isinstance(value, str) and value.startswith(("/", "~/")) and "\0" not in value
    )


def _are_features(value: object) -> bool:
    if not isinstance(value, Mapping):
        return value is None
    try:
        features = asdict(ProtocolFeatures(**value))
    except (TypeError, ValueError):
        return False
    return all(isinstance(on, bool) for name, on in features.items() if name != "browser")


# Options of `supervise` that hold for a session whoever supervises it, and what each may be.
RULES: Mapping[str, Callable[[Any], bool]] = {
    "verify": _is_text,
    "verify_tries": _is_count,
    "verify_timeout": _is_amount,
    "restart": _is_count,
    "max_usd": _is_amount,
    "max_turns": _is_count,
    "max_time": _is_amount,
    "at_limit": lambda value: value in ("wait", "stop"),
}


def _are_rules(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        name in RULES and RULES[name](rule) for name, rule in value.items()
    )


def _are_names(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) for name in value)


_SHAPES: Mapping[str, Callable[[Any], bool]] = {
    "agent": lambda value: value in KINDS,
    "program": _is_text,
    "title": _is_text,
    "name": lambda value: value == "" or is_session_id(value),
    "cwd": _is_directory,
    "logdir": _is_directory,
    "ssh": lambda value: value is None or isinstance(value, Mapping),
    "features": _are_features,
    "hidden": _are_names,
    "reads_to_end": lambda value: isinstance(value, bool),
    "rules": _are_rules,
    "journal": _is_text,
    "notes_start": lambda value: isinstance(value, bool),
    "worktree": lambda value: value is None or isinstance(value, Mapping),
}


def host_of(session: StoredSession, machine: Machine | None = None) -> Host:
    """The host of a session in the journal, not connected yet unless *machine* is."""
    facts = Facts.read(session.facts)
    logdir = facts.logdir or facts.cwd
    if machine is not None:
        return Host(machine, session.taskdir, workdir=facts.cwd, logdir=logdir)
    return make_host(
        _ssh_from(facts.ssh), taskdir=session.taskdir, workdir=facts.cwd, logdir=logdir
    )


@dataclass(frozen=True, slots=True)
class PastSession:
    """A session that is over, as another goes on with it: where, and with which conversation."""

    agent: str  # the name of its kind
    program: str
    conversation: str  # the agent's own id of it
    ssh: SSHConfig | None
    cwd: str


async def past_session(store: Store, beginning: str) -> PastSession:
    """The session whose id begins so. Raises NoSuchSession, AgentError where nothing can go on."""
    stored = await store.session(beginning)
    facts = Facts.read(stored.facts)
    if not stored.over:
        raise AgentError(f"session {stored.id} is not over: send it a message, or attach")
    conversation = await store.journal(stored.id).noted("conversation")
    if not isinstance(conversation, str) or not conversation:
        raise AgentError(f"session {stored.id} has no conversation that could go on")
    cwd = facts.cwd or f"{stored.taskdir}/workdir"
    return PastSession(facts.agent, facts.program, conversation, _ssh_from(facts.ssh), cwd)


def stored_of(host: Host, meta: Mapping[str, Any]) -> StoredSession:
    """A session of which only its host still knows. Raises AgentError."""
    refused = f"the agent in {host.taskdir} belongs to no session of ours"
    session, created_at = meta.get("id"), meta.get("created_at")
    if not is_session_id(session):
        raise AgentError(f"{refused}: its id is no plain name")
    if not isinstance(created_at, int | float) or not 0 <= created_at < _LATEST:
        raise AgentError(f"{refused}: it was made at no time")
    try:
        facts = Facts.read(meta)
    except ValueError as error:
        raise AgentError(f"{refused}: {error}") from error
    known = replace(
        facts,
        title=facts.title[:_TITLE],
        name="",
        ssh=_ssh_of(host),
        journal=secrets.token_hex(8),
        notes_start=False,
        worktree=None,
    )
    return StoredSession(session, float(created_at), host.machine.name, host.taskdir, asdict(known))


def _ssh_of(host: Host) -> dict[str, Any] | None:
    config: SSHConfig | None = getattr(host.machine, "config", None)
    return None if config is None else _absolute(asdict(config))


def _absolute(config: dict[str, Any]) -> dict[str, Any]:
    """With file names that mean the same from every directory."""
    for name in "key_path", "known_hosts":
        config[name] = config[name] and _file(config[name])
    config["config"] = config["config"] and [_file(path) for path in config["config"]]
    config["jump"] = config["jump"] and _absolute(config["jump"])
    return config


def _file(path: str) -> str:
    return path if path.startswith("~") else str(Path(path).absolute())


def _ssh_from(data: Mapping[str, Any] | None) -> SSHConfig | None:
    if data is None:
        return None
    from optio_agents.hosts.ssh.config import SSHConfig

    known: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in data.items()}
    return SSHConfig(**{**known, "jump": _ssh_from(known.get("jump"))})


# What our journal knows of an agent's start: a host may show nothing of it for a while.
#
# Before anything of an agent can run, its tag is noted, and then the process that it became. So
# "never started" can be proved, and nothing else that cannot be seen is taken for an end.


_KIND = "start"


async def note_start(
    records: SessionRecords, tag: str = "", process: ProcessId | None = None
) -> None:
    """Keep that a start is about to be made, then the process that it became; or that none is."""
    await records.note(_KIND, "", {"tag": tag, "process": str(process or "")})


async def known_start(store: Store, session: str) -> Start | None:
    """The start that was noted last, if any was."""
    notes = await store.notes(session, _KIND)
    if not notes or not notes[-1].value["tag"]:
        return None
    process = notes[-1].value["process"]
    return Start(notes[-1].value["tag"], ProcessId.parse(process) if process else None)


async def never_started(store: Store, session: StoredSession) -> bool:
    """Whether nothing of it was ever started; ask while nobody else can start it."""
    return (
        Facts.read(session.facts).notes_start
        and await known_start(store, session.id) is None
        and not (await store.journal(session.id).start()).last_lines
    )


def is_hidden(agent: Agent, error: Exception) -> bool:
    """Whether *error* says that there is nothing to be seen of *agent*: no word of its end."""
    gone = isinstance(error, FileRefused) and error.path == agent.directory
    return gone or isinstance(error, WorkDirRefused)


def unseen(session: str, host: str, error: Exception) -> AgentUnseen:
    """What to raise where the directory of *session* cannot be seen, and nothing is over."""
    return AgentUnseen(
        f"{host}: the agent of session {session} cannot be seen now ({error}); it may be at work "
        "all the same, and the session stays open: resume it later"
    )
