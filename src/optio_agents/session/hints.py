"""What an agent may have meant: a line that is nearly an entry of the log."""

from __future__ import annotations

import re

_NEARLY = re.compile(
    r"""[\s*_#>`~•+\-\d.)\[]*            # list marks, emphasis, quotes, numbering
        (status|deliverable|done|error|attention)
        [*_`~\]]*
        (?:(?P<colon>\s*:)|[.!\s*_`~]*$)""",
    re.IGNORECASE | re.VERBOSE,
)
_BARE = {"DONE", "ERROR"}  # entries without a colon, too
_FRONT = 80  # characters: a keyword stands at the front


def near_miss(text: str) -> str | None:
    """The keyword that a line of narration was probably meant to start with, if any."""
    match = _NEARLY.match(text[:_FRONT])
    if match is None:
        return None
    word = match[1].upper()
    return word if match["colon"] or word in _BARE else None
