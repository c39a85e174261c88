"""A scripted agent: a real process that does as it is told, on any host with a POSIX shell."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def _source() -> str:
    return files(__package__).joinpath("agent.sh").read_text("utf-8")


def scripted_agent(*steps: str) -> tuple[str, ...]:
    """The command line of an agent that takes *steps* in order, then exits 0.

    A step that begins with a keyword is a log line. The others: `say TEXT`, `sleep SECONDS`,
    `write PATH TEXT`, `binary PATH SIZE`, `hear` (one line of input), `exit CODE`, `run COMMAND`.
    Nothing is installed: the script travels in the command line.

    >>> argv = scripted_agent(
    ...     "STATUS: 50% half way",
    ...     "write a.txt hello",
    ...     "DELIVERABLE: deliverables/a.txt",
    ...     "hear",
    ...     "DONE: all of it",
    ... )
    """
    return ("/bin/sh", "-c", _source(), "scripted-agent", *steps)
