"""One run of a session: lines of the log become records, calls and answers, to one true end.

A line is recorded with the cursor behind it, then handed over, then marked done; what was recorded
and not marked done is handed over again by the next run. Nothing but DONE, with every deliverable
answered, is a success.

Read `run` (the way in), `stages` (what happens in which order), `dispatch` (lines to whoever they
are for), `deliverables`, `messages` and `progress` (who they are for), `watch` (what is noticed
without being said), `outcome` (which of several endings counts); `shared` is what they have in
common, `foreign_code` and `foreign_host` run what is not ours.
"""

from optio_agents.store.memory import MemoryJournal
from optio_agents.store.records import Delivery, Ended, Entry, Journal, Resumed, SessionResult

from .deliverables import (
    DELIVERABLE_QUEUE_BOUND,
    Deliverable,
    DeliverableCallback,
    DeliverableFileCallback,
    fetch_deliverable_text,
)
from .messages import CALLER_MESSAGE_QUEUE_BOUND, CallerMessageCallback
from .run import run_log_protocol_session
from .stages import HookCallback

__all__ = [
    "CALLER_MESSAGE_QUEUE_BOUND",
    "DELIVERABLE_QUEUE_BOUND",
    "CallerMessageCallback",
    "Deliverable",
    "DeliverableCallback",
    "DeliverableFileCallback",
    "Delivery",
    "Ended",
    "Entry",
    "HookCallback",
    "Journal",
    "MemoryJournal",
    "Resumed",
    "SessionResult",
    "fetch_deliverable_text",
    "run_log_protocol_session",
]
