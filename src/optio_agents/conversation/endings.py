"""Why a conversation came to its end, in one sentence."""

from __future__ import annotations

from .contract import CloseReason, Event
from .stream_json import failure
from .wire import End


def ended(label: str, end: End, last_result: Event | None, *, asked: bool) -> CloseReason:
    """The CLI's process has ended."""
    match end.how:
        case "exited" if end.signal:
            how = f"{label} was ended by SIG{end.signal}"
        case "exited" if end.exit_code is not None:
            how = f"{label} exited with {end.exit_code}"
        case "lost":
            how = f"{label} is gone, and nobody knows how it ended"
        case "rebooted":
            how = f"{label} is gone: its host was restarted"
        case _:
            how = f"{label} has ended"
    if (
        end.exit_code
        and not (asked or end.signal)
        and last_result
        and (words := failure(last_result))
    ):
        how = f"{how}; its last turn failed: {words}"
    return CloseReason(how, asked, end.exit_code, end.signal, end.stderr, last_result)


def unheard(label: str, why: object, last_result: Event | None, *, asked: bool) -> CloseReason:
    """It is not read any further, and may go on."""
    how = f"{label} was closed" if asked else f"{label} is not listened to any more"
    return CloseReason(f"{how}: {why}" if why else how, asked, last_result=last_result)
