"""What following a file gives, and what may be asked of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from .cursor import Cursor


LINE_LIMIT = 1 << 20  # bytes
COMPARED_LINES = 100_000  # of a generation: their digests are kept, 8 bytes each
RIPE_AFTER = 2.0  # seconds that an unterminated last line must have stood


@dataclass(slots=True)
class Batch:
    """At least one whole line. Record it, then ask for the next."""

    lines: list[bytes]  # without their newline; a trailing \r stays
    ends: list[int]  # the offset behind each line
    cursor: Cursor  # behind the last of them
    digests: bytes = b""
    """8 bytes a line, to append to those recorded for the cursor's generation.

    The first batch of a generation also brings those of the lines at its front that were
    delivered before and hence are not among `lines`. None behind the first 100,000 lines of a
    generation, none in journals.
    """
    repeated: bool = False  # beyond what digests can compare: may have been delivered before
    cut: dict[int, int] = field(default_factory=dict)  # index of a line cut at the limit: its size
    unterminated: bool = False  # the last line has no newline (yet)


class ProcessIdentity(Protocol):
    """Whose end ends the following; `hosts.machine.ProcessId` is one."""

    @property
    def pid(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def boot(self) -> str: ...


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """How to follow a file."""

    journal: bool = False  # it only grows: no generations, a change raises JournalChanged
    limit: int = LINE_LIMIT  # bytes of a line; the rest of a longer one is dropped
    process: ProcessIdentity | None = None  # when it is gone and all is read, iteration ends
    root: str | None = None  # a real path, below which that of the file must lie
    delivered: bytes = b""  # the digests recorded for the cursor's generation
    ripe: Callable[[bytes], bool] | None = None  # deliver such an unterminated last line after 2 s


class Batches(Protocol):
    """Batches of lines, one after the other; asking for the next says that this one is recorded.

    Raises JournalChanged, FileRefused and, where the host may never be asked again,
    HostKeyRefused. A lost link raises nothing: the file is the queue.
    """

    @property
    def rest(self) -> bytes:
        """The unterminated last line as seen now, its first `limit` bytes."""

    @property
    def rest_since(self) -> float | None:
        """`anyio.current_time()` since when it stands like this; None without one."""

    @property
    def caught_up(self) -> bool:
        """The last look at the file found its end, and all before it was delivered."""

    def finish(self) -> None:
        """The writer has ended: read to the end, deliver the rest too, then stop."""

    def __aiter__(self) -> Batches: ...
    async def __anext__(self) -> Batch: ...
