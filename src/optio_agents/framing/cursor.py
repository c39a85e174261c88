"""Where a reader stands in a file that others append to, rewrite or replace."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from .compare import Place


@dataclass(frozen=True, slots=True)
class Cursor:
    """Constant in size, whatever was read. The default stands before a file not yet seen."""

    device: int = 0
    inode: int = 0  # 0: no file was seen yet
    size: int = 0
    mtime_ns: int = 0
    offset: int = 0  # behind the last line read
    generation: int = 0  # how often the file was replaced
    lines: int = 0  # of this generation, before the offset
    tail: str = ""  # digest of the last `window` bytes before the offset
    window: int = 0

    @property
    def place(self) -> Place:
        """What a look at the file needs of it."""
        return Place(self.device, self.inode, self.offset, self.tail, self.window)

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Cursor:
        """Read what `to_json` wrote. Raises ValueError for anything else."""
        data = json.loads(text)
        if not isinstance(data, dict) or data.keys() != {field.name for field in fields(cls)}:
            raise ValueError("not a cursor")
        numbers = [data[name] for name in data if name != "tail"]
        if not all(type(n) is int and n >= 0 for n in numbers) or not isinstance(data["tail"], str):
            raise ValueError("not a cursor")
        return cls(**data)
