"""What whoever starts a session gives it: callbacks and limits, as one typed value."""

from __future__ import annotations

import dis
import inspect
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from optio_agents.agents import Agent
from optio_agents.context import AgentSender, HookContext
from optio_agents.display import Secrets
from optio_agents.hosts.host import Host
from optio_agents.protocol.protocol import Protocol, get_protocol


@dataclass(frozen=True, slots=True)
class Deliverable:
    """A file that the agent handed over, here on our side."""

    id: str  # the same when it is handed over again after a crash
    path: str  # relative to deliverables/, with slashes
    local_path: Path  # gone after the callback unless it was saved
    size: int
    sha256: str

    def read_bytes(self) -> bytes:
        return self.local_path.read_bytes()

    def text(self) -> str:
        """Raises UnicodeDecodeError where it is not UTF-8."""
        return self.read_bytes().decode()


# Real objects, so that `DeliverableCallback | None` holds where it is run, not only read.
Body: TypeAlias = Callable[[Host, HookContext], Awaitable[Any]]
HookCallback: TypeAlias = Callable[[HookContext], Awaitable[None]]
DeliverableCallback: TypeAlias = Callable[[HookContext, str, str], Awaitable[str | None]]
DeliverableFileCallback: TypeAlias = Callable[[HookContext, Deliverable], Awaitable[str | None]]
CallerMessageCallback: TypeAlias = Callable[[HookContext, str, object], Awaitable[str | None]]
DoneCallback: TypeAlias = Callable[[HookContext, str | None], Awaitable[str | None]]
"""`on_done(hook_ctx, summary)`: None, or what is to be mended before DONE holds."""
ReplySender: TypeAlias = Callable[[str, str], Awaitable[object]]
"""`sender(name, text)`: say *text* under *name*, once however often it is asked to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a run is to do; see `run_log_protocol_session`, whose keywords these are.

    Raises ValueError, with one sentence, where callbacks cannot be called as they will be.
    """

    body: Body | None = None
    on_deliverable: DeliverableCallback | None = None
    on_deliverable_file: DeliverableFileCallback | None = None
    on_caller_message: CallerMessageCallback | None = None
    before_execute: HookCallback | None = None
    after_execute: HookCallback | None = None
    protocol: Protocol = field(default_factory=get_protocol)
    browser_url_rewrite: Callable[[str], str] | None = None
    agent_sender: AgentSender | None = None
    prepare: Body | None = None
    keywords: bool = True
    stall_after: float | None = None
    lost_after: float | None = 900.0
    body_grace: float = 5.0
    callback_timeout: float = 600.0
    save_deliverables_to: str | os.PathLike[str] | None = None
    max_deliverable_bytes: int = 100 << 20
    agent: Agent | None = None
    reply_sender: ReplySender | None = None
    resuming: bool = False
    busy: Callable[[], bool] = lambda: False
    deaf: bool = False
    permit: Callable[[], Awaitable[None]] | None = None
    on_done: DoneCallback | None = None
    verify: str | None = None  # a command that checks DONE, in the work directory on the host
    verify_tries: int = 3  # DONE that are refused until the session is
    verify_timeout: float = 900.0  # seconds for the command
    on_check: Callable[[bool], None] = lambda _: None  # a check begins, or has ended
    on_over: Callable[[], None] = lambda: None  # how it ends is settled
    secrets: Secrets = field(default_factory=Secrets)  # hidden from all that is kept or shown

    def __post_init__(self) -> None:
        for name, given in _ASYNC.items():
            _check(name, getattr(self, name), given, is_async=True)
        _check("browser_url_rewrite", self.browser_url_rewrite, ("url",), is_async=False)
        enabled = self.protocol.features.caller_messages
        if enabled != (self.on_caller_message is not None):
            why = "no on_caller_message is given" if enabled else "the protocol does not enable it"
            raise ValueError(
                f"on_caller_message and a protocol with caller_messages belong together: {why}"
            )
        if self.verify_tries < 1:
            raise ValueError("verify_tries is at least 1")


_ASYNC = {
    "body": ("host", "hook_ctx"),
    "prepare": ("host", "hook_ctx"),
    "before_execute": ("hook_ctx",),
    "after_execute": ("hook_ctx",),
    "on_deliverable": ("hook_ctx", "path", "text"),
    "on_deliverable_file": ("hook_ctx", "deliverable"),
    "on_caller_message": ("hook_ctx", "keyword", "data"),
    "on_done": ("hook_ctx", "summary"),
    "agent_sender": ("text",),
    "reply_sender": ("name", "text"),
}


def _check(name: str, callback: object, given: tuple[str, ...], *, is_async: bool) -> None:
    """Raise ValueError where *callback* is sure to fail when it is called."""
    if callback is None:
        return
    form = f"{'async ' if is_async else ''}{name}({', '.join(given)})"
    if not callable(callback):
        words = f"{name} cannot be called: {form} is expected, not {callback!r}"
        raise ValueError(words)  # noqa: TRY004 - misuse is ValueError everywhere
    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):  # written in C, perhaps
        return
    try:
        signature.bind(*given)
    except TypeError as error:
        raise ValueError(f"{name} is called as {form}, and yours takes {signature}") from error
    if is_async and not _may_be_awaited(callback):
        raise ValueError(f"{name} must be async, as in `async def {name}({', '.join(given)})`")


def _may_be_awaited(callback: Any) -> bool:
    """False where what it returns can never be awaited; it need not be an `async def` itself."""
    while isinstance(callback, partial):
        callback = callback.func
    function = inspect.unwrap(callback)
    function = getattr(function, "__func__", function)
    if inspect.isasyncgenfunction(function):
        return False
    if inspect.iscoroutinefunction(function) or not inspect.isfunction(function):
        return True
    if function.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE:
        return True
    return not (inspect.isgeneratorfunction(function) or _returns_constants(function))


def _returns_constants(function: Any) -> bool:
    """As `def on_deliverable(…): print(…)` does, where `async` was forgotten."""
    code = list(dis.get_instructions(function))
    returns = [before.opname for before, after in pairwise(code) if after.opname == "RETURN_VALUE"]
    return all(name.startswith("LOAD_CONST") for name in returns)
