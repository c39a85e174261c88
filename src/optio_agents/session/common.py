"""What the parts of one session share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from .guests import Guests
    from .journal import Entry, Journal
    from .verdict import Decide


@dataclass(frozen=True, slots=True)
class Common:
    """Handed to each part, so that they need not know each other."""

    journal: Journal
    guests: Guests
    workers: TaskGroup  # for work that ends with the session
    decide: Decide
    done: Callable[[Entry], None]  # this entry had its turn
    failed: Callable[[Exception], None]  # the session cannot go on
    troubles: Counter[str] = field(default_factory=Counter)  # what raised, and how often
