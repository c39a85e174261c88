"""Standard output: JSON lines, and what to do when nobody reads them any more."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def as_json(record: Mapping[str, Any]) -> str:
    """One line; ASCII alone, so that no terminal is told anything by it."""
    return json.dumps(record, ensure_ascii=True, separators=(",", ":"), default=str)


def mute() -> None:
    """Whoever read us (`| head`) has seen enough: what is still buffered goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
