"""What a team may use up, and how often something is to be done."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of everything that one outside call leads to; None is no bound.

    They travel down the chain of calls and count across restarts. *depth* is how many calls
    stand on one another, *children* how many one turn may make, *wakes* how often one turn may
    sleep for long; *steps* (requests to models), *tokens*, *usd* and *seconds* count for the whole
    tree. *at_once* bounds the requests to models and the tools that run in this process; who
    waits for somebody else takes up no place.
    """

    depth: int | None = 32
    children: int | None = None
    steps: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    wakes: int | None = None
    usd: float | None = None
    at_once: int = 16

    def __post_init__(self) -> None:
        for part in fields(self):
            bound = getattr(self, part.name)
            if bound is not None and not bound >= (part.name == "at_once"):  # NaN is none, too
                raise ValueError(f"the limit {part.name} is {bound}")

    def dump(self) -> dict[str, Any]:
        """What differs from no bound at all, to be kept with a turn."""
        bounds = {part.name: getattr(self, part.name) for part in fields(self)}
        del bounds["at_once"]  # of this process alone
        return {name: bound for name, bound in bounds.items() if bound is not None}


CAREFUL = Limits(depth=5, children=20, steps=200, tokens=5_000_000, seconds=4 * 3600.0, wakes=200)


@dataclass(frozen=True, slots=True)
class Every:
    seconds: float
    times: int | None = None


def every(
    seconds: float = 0.0,
    *,
    minutes: float = 0.0,
    hours: float = 0.0,
    days: float = 0.0,
    times: int | None = None,
) -> Every:
    """For `call(when=…)`: again and again at this distance, at most *times* times."""
    span = seconds + 60 * minutes + 3600 * hours + 86400 * days
    if span <= 0:
        raise ValueError("say how often: a distance above zero")
    return Every(span, times)
