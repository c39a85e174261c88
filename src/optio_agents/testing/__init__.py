"""Real parts and faults to test agents, hooks and hosts with; `pytest_plugin` has fixtures."""

from importlib import import_module
from typing import TYPE_CHECKING

from .corpus import FEATURES, LOG_CORPUS, Sample
from .memory import MemoryContext, MemoryHost
from .proxy import FaultProxy
from .scripted import scripted_agent
from .transcript import Recorder, Transcript, TranscriptPlayer, playing

if TYPE_CHECKING:
    from .turn_stores import SHARED_STORE_CASES, TURN_STORE_CASES

__all__ = [
    "FEATURES",
    "LOG_CORPUS",
    "SHARED_STORE_CASES",
    "TURN_STORE_CASES",
    "FaultProxy",
    "MemoryContext",
    "MemoryHost",
    "Recorder",
    "Sample",
    "Transcript",
    "TranscriptPlayer",
    "playing",
    "scripted_agent",
]


def __getattr__(name: str) -> object:
    if name in {"SHARED_STORE_CASES", "TURN_STORE_CASES"}:  # the team, not before it is asked for
        return getattr(import_module(".turn_stores", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
