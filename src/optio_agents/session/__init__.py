"""The supervision of one task: driver, deliverables, journal, and how it ended."""

from typing import TYPE_CHECKING

from optio_agents._face import face

# A public name stands here twice: for type checkers, and for whoever uses it first.
if TYPE_CHECKING:
    from optio_agents.session.deliverables import Deliverable as Deliverable
    from optio_agents.session.driver import run_log_protocol_session as run_log_protocol_session
    from optio_agents.session.journal import (
        Delivery as Delivery,
        Entry as Entry,
        Journal as Journal,
        MemoryJournal as MemoryJournal,
        Resumed as Resumed,
    )
    from optio_agents.session.result import Ended as Ended, SessionResult as SessionResult
else:
    __all__, __dir__, __getattr__ = face(
        __name__,
        {
            "deliverables": "Deliverable",
            "driver": "run_log_protocol_session",
            "journal": "Delivery Entry Journal MemoryJournal Resumed",
            "result": "Ended SessionResult",
        },
    )
