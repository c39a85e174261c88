"""`optio-agents demo`: a scripted agent does all that an agent may do, supervised for real."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from optio_agents.cli.places import host_options, ssh_of
from optio_agents.cli.run import supervision_options
from optio_agents.cli.wish import Wish, supervise_wish

if TYPE_CHECKING:
    from optio_agents.context import HookContext
    from optio_agents.session.deliverables import Deliverable

_STEPS = (
    "STATUS: 5% reading the task",
    "sleep 1",
    "STATUS: 15% writing a poem about log files",
    "sleep 1.5",
    "write poem.md Append, append: the file will never bend",
    "DELIVERABLE: deliverables/poem.md",
    "hear",
    "STATUS: 40% the poem needs an end, it was said",
    "sleep 1.5",
    "write poem-2.md Append, append: the file will never bend. What starts with STATUS has a DONE.",
    "DELIVERABLE: deliverables/poem-2.md",
    "hear",
    "STATUS: 65% measuring silence, for something that is not text",
    "sleep 1.5",
    "binary silence.wav 65536",
    "DELIVERABLE: deliverables/silence.wav",
    "hear",
    "STATUS: 90% tidying up",
    "sleep 1",
    "DONE: a poem on the second attempt, and 64 KiB of silence",
)


async def _review(_: HookContext, deliverable: Deliverable) -> str | None:
    """What a task hook would do: accept, or say what to change."""
    if deliverable.path == "poem.md":
        return "It has no end. Please write one, and hand it over as poem-2.md."
    return None


@click.command(epilog="Example:  optio-agents demo --host me@box")
@host_options
@supervision_options
def demo(host: str | None, host_key: str, save: Path | None, **rest: Any) -> int:
    """Watch a scripted agent work, here or on a host: about ten seconds, nothing to set up.

    It is a real process, supervised as any other: statuses, a text that has to be revised, a
    binary file, DONE. The files are kept in ./optio-demo, or where --save says.
    """
    from optio_agents.session.spec import Command
    from optio_agents.testing.scripted import scripted_agent

    wish = Wish(
        spec=Command(scripted_agent(*_STEPS)),
        ssh=ssh_of(host, policy=host_key) if host else None,
        title="demo",
        save=save or Path("optio-demo"),
        **rest,
    )
    return anyio.run(_demo, wish)


async def _demo(wish: Wish) -> int:
    return await supervise_wish(wish, on_deliverable_file=_review)
