"""Plain functions at named points of a team's work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optio_agents.team.turn import Turn

POINTS = (
    "before_turn",  # the message; a text or message in its place
    "after_turn",  # the messages; others in their place
    "before_step",  # the number of the step of a model
    "after_step",  # what the step cost
    "before_model",  # the request
    "after_model",  # the answer
    "before_tool",  # the arguments
    "after_tool",  # the result
    "before_event",  # the event; only plain functions, as nobody waits
    "after_event",
    "before_store",  # what is written as the end of a turn
    "after_store",
    "message",  # each message of a turn, once, when it is complete
    "value",  # each reply of a turn, as it comes
    "told",  # what a turn of yours tells you while it works; a text is the answer
    "error",
    "timeout",
)


class Hooks:
    """What was registered with `@team.on`; false while that is nothing."""

    def __init__(self) -> None:
        self._at: dict[str, list[tuple[dict[str, str], Callable[..., Any]]]] = {}

    def __bool__(self) -> bool:
        return bool(self._at)

    def add(self, point: str, function: Callable[..., Any], only: dict[str, str]) -> None:
        if point not in POINTS:
            raise ValueError(f"no point is called {point!r}: there are {', '.join(POINTS)}")
        if point.endswith("_event") and iscoroutinefunction(function):
            raise ValueError(f"{point} is called while nobody can wait: give a plain function")
        self._at.setdefault(point, []).append((only, function))

    async def run(self, point: str, turn: Turn | None, value: Any, **about: str) -> Any:
        """Call what stands at *point*, each with what the one before made of *value*.

        What the last one that returned something returned; None if none did.
        """
        changed = None
        for function in self._that_fit(point, turn, about):
            result = function(turn, value)
            if isawaitable(result):
                result = await result
            if result is not None:
                changed = value = result
        return changed

    async def change(self, point: str, turn: Turn | None, value: Any, **about: str) -> Any:
        """*value*, or what the hooks at *point* made of it."""
        changed = await self.run(point, turn, value, **about)
        return value if changed is None else changed

    def event(self, turn: Turn, event: Any) -> Any:
        """*event* as the hooks have it, when it is put into the stream."""
        for function in self._that_fit("before_event", turn, {}):
            event = function(turn, event) or event
        return event

    def after_event(self, turn: Turn, event: Any) -> None:
        for function in self._that_fit("after_event", turn, {}):
            function(turn, event)

    def _that_fit(
        self, point: str, turn: Turn | None, about: dict[str, str]
    ) -> Iterator[Callable[..., Any]]:
        known = about if turn is None else {"name": turn.name, **about}
        for only, function in self._at.get(point, ()):
            if only.items() <= known.items():
                yield function
