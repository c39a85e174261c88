"""Files to and from a host: streamed in bounded memory, landed whole or not at all."""

from .fetch import FetchedFile, fetch
from .progress import PercentCallback, Progress, as_percent
from .put import Put, Readable, put

__all__ = [
    "FetchedFile",
    "PercentCallback",
    "Progress",
    "Put",
    "Readable",
    "as_percent",
    "fetch",
    "put",
]
