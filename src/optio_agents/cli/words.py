"""What an error says to a person at a terminal: what happened, and what to do next."""

from __future__ import annotations

from optio_agents.errors import AlreadyOwned, HostKeyRefused
from optio_agents.protocol.display import visible_block


def told(error: BaseException) -> str:
    """One sentence, safe to print."""
    words = str(error) or "it took too long"  # a TimeoutError has no words of its own
    match error:
        case HostKeyRefused(reason="unknown"):
            words += "; to accept this key once and for all, add --host-key accept-new"
        case AlreadyOwned():
            words += "; if it is gone, wait a minute, or add --take-over"
    return visible_block(words)
