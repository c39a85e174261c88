"""One run of a session: lines of the log become records, calls and answers, to one true end.

Nothing but DONE, with every deliverable answered, is a success; what fails on our side meanwhile is
reported where people look, and counted in the result.

*Record, hand over, mark done*, always in this order. A line is recorded with the cursor behind it,
in one transaction: from then on no supervisor reads it again, and none can lose it. Only then is it
handed over, to a callback, the context or the agent; and only when that had its turn, whatever came
of it, the line is marked done. So a crash between the first two steps loses nothing, since the next
run begins with what is recorded and not done; a crash between the last two repeats an effect, under
the same id, which is the least that can happen to effects outside of us (at least once). Answers to
the agent are one step better: a reply is recorded before it is said, and said under the name of its
line, and a name that exists in the agent's input was said already. Handing over never waits in the
reader: each kind has a queue of its own, in order, so a slow callback delays no STATUS, and no
ERROR waits behind ten thousand deliverables. What the queues hold is bounded and what exceeds them
counted; the log itself is the rest of the queue.

*One end.* The first ending counts; only DONE gives way, to what breaks one of its promises. From a
failure on, foreign code has 10 s, then it is left behind by name; `after_execute` runs in every
case.

Read `run` (the way in, and the stages in their order), `options` (what it is given), `shared` (what
its parts have in common), `dispatch` (lines to whoever they are for), `deliverables`, `messages`
and `progress` (who they are for), `watch` (what is noticed without being said), `outcome` (which of
several endings counts); `foreign_code` and `foreign_host` run what is not ours.
"""

from optio_agents.store.memory import MemoryJournal
from optio_agents.store.records import Delivery, Ended, Entry, Journal, Resumed, SessionResult

from .deliverables import DELIVERABLE_QUEUE_BOUND, fetch_deliverable_text
from .messages import CALLER_MESSAGE_QUEUE_BOUND
from .options import (
    CallerMessageCallback,
    Deliverable,
    DeliverableCallback,
    DeliverableFileCallback,
    DoneCallback,
    HookCallback,
)
from .run import run_log_protocol_session

__all__ = [
    "CALLER_MESSAGE_QUEUE_BOUND",
    "DELIVERABLE_QUEUE_BOUND",
    "CallerMessageCallback",
    "Deliverable",
    "DeliverableCallback",
    "DeliverableFileCallback",
    "Delivery",
    "DoneCallback",
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
