"""Real parts and faults to test agents, hooks and hosts with; `pytest_plugin` has fixtures."""

from .corpus import FEATURES, LOG_CORPUS, Sample
from .memory import MemoryContext, MemoryHost
from .proxy import FaultProxy
from .scripted import scripted_agent
from .transcript import Recorder, Transcript, TranscriptPlayer, playing

__all__ = [
    "FEATURES",
    "LOG_CORPUS",
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
