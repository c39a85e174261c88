"""Keep the values of named credentials out of whatever is recorded or shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SHORTEST = 6  # a shorter value is no credential, and replacing it would garble ordinary words


class Secrets:
    """Values that are replaced by `[NAME]`; the longest first, so that none shines through."""

    def __init__(self, named: Mapping[str, str] | None = None) -> None:
        self._names = {value: name for name, value in (named or {}).items()}
        values = sorted((v for v in self._names if len(v) >= _SHORTEST), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, values))) if values else None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def hide(self, text: str) -> str:
        """*text* with every known value replaced."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: f"[{self._names[found.group()]}]", text)

    def hide_in(self, value: Any) -> Any:
        """*value*, as JSON knows values, with every text in it so treated."""
        match value:
            case str():
                return self.hide(value)
            case Mapping():
                return {self.hide(str(key)): self.hide_in(inner) for key, inner in value.items()}
            case list() | tuple():
                return [self.hide_in(inner) for inner in value]
        return value
