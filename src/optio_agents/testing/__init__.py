"""Real parts and faults to test agents, hooks and hosts with; `pytest_plugin` has fixtures."""

from typing import TYPE_CHECKING

from optio_agents._face import face

if TYPE_CHECKING:
    from optio_agents.testing.corpus import (
        FEATURES as FEATURES,
        LOG_CORPUS as LOG_CORPUS,
        Sample as Sample,
    )
    from optio_agents.testing.memory import (
        MemoryContext as MemoryContext,
        MemoryHost as MemoryHost,
    )
    from optio_agents.testing.proxy import FaultProxy as FaultProxy
    from optio_agents.testing.scripted import scripted_agent as scripted_agent
    from optio_agents.testing.transcript import (
        Recorder as Recorder,
        Transcript as Transcript,
        TranscriptPlayer as TranscriptPlayer,
        playing as playing,
    )
else:
    __all__, __dir__, __getattr__ = face(
        __name__,
        {
            "corpus": "FEATURES LOG_CORPUS Sample",
            "memory": "MemoryContext MemoryHost",
            "proxy": "FaultProxy",
            "scripted": "scripted_agent",
            "transcript": "Recorder Transcript TranscriptPlayer playing",
        },
    )
