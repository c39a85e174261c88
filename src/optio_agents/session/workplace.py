"""Where an agent works, and what a path that it names means there."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Workplace:
    """Names only: whether a path stays inside is judged on the host, when it is opened."""

    workdir: str  # as we name it
    real: str  # as the host resolves it

    @property
    def log(self) -> str:
        return posixpath.join(self.workdir, "optio.log")

    @property
    def deliverables(self) -> str:
        return posixpath.join(self.workdir, "deliverables")

    def absolute(self, announced: str) -> str:
        """The path to open; its `..` are left for the host, which knows its links."""
        return posixpath.join(self.workdir, announced)

    def relative(self, announced: str, *, real: str | None = None) -> str:
        """How people call the file: relative to deliverables/, or as announced.

        *real* is where the host found it, in case the agent went there by another way.
        """
        named = posixpath.normpath(self.absolute(announced))
        for path in (named, real and posixpath.normpath(real)):
            for base in (self.workdir, self.real):
                root = posixpath.join(posixpath.normpath(base), "deliverables", "")
                if path and path.startswith(root):
                    return path[len(root) :]
        return announced
