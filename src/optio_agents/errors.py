"""What can go wrong, split by who can act: the machine, the agent, or the session as a whole.

Misuse stays `ValueError`; a callback's own exception passes untouched; a library's is
translated once, in the adapter that met it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = [
    "AgentError",
    "AgentExited",
    "AgentReportedError",
    "AgentStalled",
    "AgentUnseen",
    "AlreadyOwned",
    "CommandFailed",
    "CommandTimedOut",
    "ConnectError",
    "DoneRefused",
    "EndSession",
    "EndedByHook",
    "FileRefused",
    "HostError",
    "HostKeyRefused",
    "HostLost",
    "HostUnreachable",
    "InputClosed",
    "JournalChanged",
    "LoginRefused",
    "NameTaken",
    "NoSuchSession",
    "OptioAgentsError",
    "PortClosed",
    "ServerSilent",
    "SessionFailed",
    "SessionLimitReached",
    "StoreError",
    "TransferFailed",
    "UnknownHostName",
    "WorkDirRefused",
]

_LAST_WORDS = 200  # characters of stderr that a message quotes


class OptioAgentsError(Exception):
    """The root of everything this library raises on its own account."""


class HostError(OptioAgentsError):
    """The machine, or the way to it, is at fault."""


class HostLost(HostError):
    """The link broke while something was in flight; its outcome is unknown and was not repeated."""


class ConnectError(HostError):
    """No connection could be made; the message names the host and says what to do."""


class UnknownHostName(ConnectError):
    """The name of the host does not resolve."""


class PortClosed(ConnectError):
    """Nothing listens there."""


class ServerSilent(ConnectError):
    """The server accepted, or swallowed, the connection and said nothing in time."""


class LoginRefused(ConnectError):
    """The server does not take our user or keys."""


class HostKeyRefused(ConnectError):
    """The host key is unknown, changed or revoked; nothing was sent to the server."""

    def __init__(self, message: str, *, reason: str, seen: str = "", known: str = "") -> None:
        super().__init__(message)
        self.reason, self.seen, self.known = reason, seen, known  # fingerprints


class CommandFailed(HostError):
    """A command on the host exited non-zero."""

    def __init__(self, command: str, exit_code: int, stdout: str = "", stderr: str = "") -> None:
        super().__init__(command, exit_code, stdout, stderr)  # what pickle and copy rebuild from
        self.command, self.exit_code = command, exit_code
        self.stdout, self.stderr = stdout, stderr

    def __str__(self) -> str:
        last_words = self.stderr.strip()[-_LAST_WORDS:] or "nothing on stderr"
        return f"{self.command!r} ended with exit {self.exit_code}: {last_words}"


class CommandTimedOut(HostError, TimeoutError):
    """A command on the host ran past its time-out; its whole process tree was ended."""


class FileRefused(HostError):
    """A path on the host was not opened: `reason` says why in one word.

    Reasons: missing, directory, special, outside, linked, too-large, changed,
    unreadable.
    """

    def __init__(self, path: str, reason: str, detail: str = "") -> None:
        super().__init__(path, reason, detail)
        self.path, self.reason, self.detail = path, reason, detail

    def __str__(self) -> str:
        return f"{self.path}: {self.detail or self.reason}"


class TransferFailed(HostError):
    """A file did not arrive whole; the target is untouched."""


class JournalChanged(HostError):
    """A file that only ever grows, an agent's output, was replaced or cut."""


class AgentUnseen(HostError):
    """What a session left on its host cannot be seen now: nothing is known, and nothing over."""


class AgentError(OptioAgentsError):
    """The agent, or its session directory, is at fault."""


class WorkDirRefused(AgentError):
    """The directory holds something that is not this session's; nothing was touched."""


class NameTaken(AgentError):
    """A message of this name was said before, with other words."""


class InputClosed(AgentError):
    """The agent takes no more input: it has ended, or its input has."""


class AlreadyOwned(AgentError):
    """Somebody else supervises this session; `owner` names them."""

    def __init__(self, message: str, *, owner: str) -> None:
        super().__init__(message, owner)
        self.owner = owner

    def __str__(self) -> str:
        return str(self.args[0])


class StoreError(OptioAgentsError):
    """The journal could not be read or written."""


class NoSuchSession(StoreError):
    """No session of the journal begins like that, or several do."""


class SessionFailed(OptioAgentsError):
    """The session ended, and not with DONE.

    `last_lines` are the last 20 lines of the log, `stderr` the last of the agent's stderr,
    `result` the `SessionResult` as far as it goes.
    """

    def __init__(
        self,
        message: str,
        *,
        last_lines: Sequence[str] = (),
        stderr: str = "",
        result: object = None,
    ) -> None:
        super().__init__(message)
        self.last_lines, self.stderr, self.result = tuple(last_lines), stderr, result


class AgentReportedError(SessionFailed):
    """The agent wrote ERROR."""


class AgentExited(SessionFailed):
    """The agent ended without DONE; `exit_code` is None where nobody can know it."""

    exit_code: int | None = None


class AgentStalled(SessionFailed):
    """Nothing was heard of the agent for `stall_after`."""


class DoneRefused(SessionFailed):
    """The agent wrote DONE, and what checks that refused it to the last."""


class SessionLimitReached(SessionFailed):
    """The session has used all that it may: turns, money, or time."""


class EndedByHook(SessionFailed):
    """A callback raised `EndSession`."""


class HostUnreachable(SessionFailed):
    """The host stayed away for `lost_after`; the agent may still be at work there."""


class EndSession(Exception):  # not an error of ours: a word that a callback says to us
    """Raise it in a callback to end the session as `EndedByHook(reason)`."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


def missing_extra(name: str, what: str) -> str:
    """How to get what the extra *name* brings, without which *what* is not to be had."""
    return (
        f"{what} needs more than the library. In a checkout: pip install '.[{name}]'; from a "
        f"wheel: pip install './NAME.whl[{name}]'. On the index, another project may have this "
        "name."
    )
