"""What the agent is told about a file that it announced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optio_agents.protocol.display import visible

if TYPE_CHECKING:
    from optio_agents.errors import FileRefused

_LONGEST = 32_768  # characters of a revision request

_TO_MEND = {
    "missing": "there is no such file. Write it there, then announce it again.",
    "directory": "this is a directory. Pack it into one file and announce that.",
    "special": "this is not a regular file. Write a regular file and announce that.",
    "outside": "this file is not in deliverables/. Put it there, as a file of its own and not as "
    "a link, and announce it there.",
    "changed": "the file changed while it was being read. Announce it again once it is final.",
    "unreadable": "the file cannot be read. Make it readable and announce it again.",
}


def verdict(path: str, revision: object) -> str:
    """*revision* is what a callback returned: what to change, or nothing."""
    if isinstance(revision, str) and revision:
        return f"deliverable {path}: {revision[:_LONGEST]}"
    return f"deliverable {path}: accepted."


def refused(path: str, error: FileRefused, max_bytes: int) -> str:
    """What to mend where the host would not open the file."""
    if error.reason == "too-large":
        return (
            f"deliverable {path}: too large; at most {max_bytes} bytes are taken. "
            "Make it smaller or split it, and announce that."
        )
    return f"deliverable {path}: {_TO_MEND.get(error.reason, visible(str(error)))}"


def not_text(path: str) -> str:
    return (
        f"deliverable {path}: not text. Only UTF-8 text files are taken here; "
        "hand it over as text and announce it again."
    )


def our_trouble(path: str) -> str:
    return (
        f"deliverable {path}: there was trouble on our side; your file is fine. "
        "Announce it again later."
    )


def crowded(path: str, bound: int) -> str:
    return (
        f"deliverable {path}: refused, {bound} announcements are still waiting. "
        "Announce it again when some of them have been answered."
    )


def ended(path: str, reason: str) -> str:
    return f"deliverable {path}: the session ends here. {visible(reason)}".rstrip()
