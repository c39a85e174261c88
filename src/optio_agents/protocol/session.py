"""The session driver under its published name; it stands in `optio_agents.session`."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optio_agents.errors import SessionFailed as _SessionFailed
    from optio_agents.session import (
        CallerMessageCallback,
        DeliverableCallback,
        HookCallback,
        fetch_deliverable_text,
        run_log_protocol_session,
    )

__all__ = [
    "CallerMessageCallback",
    "DeliverableCallback",
    "HookCallback",
    "_SessionFailed",
    "fetch_deliverable_text",
    "run_log_protocol_session",
]


def __getattr__(name: str) -> object:
    if name == "_SessionFailed":  # what engines catch around a session
        return import_module("optio_agents.errors").SessionFailed
    if name in __all__:
        return getattr(import_module("optio_agents.session"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
