"""Files to and from a host: streamed in bounded memory, landed whole or not at all."""

from .fetch import Fetched, fetch
from .progress import PercentCallback, Progress, as_percent
from .put import Put, Readable, put

__all__ = [
    "Fetched",
    "PercentCallback",
    "Progress",
    "Put",
    "Readable",
    "as_percent",
    "fetch",
    "put",
]
