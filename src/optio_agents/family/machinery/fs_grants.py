"""Which directories an agent may touch: the grants that stand in front of its command.

The agent gets its work directory and the engine's own programs; of the system what a program needs
to run at all, to find names, and to speak with its terminal; nothing of any home.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_RUN, _READ, _WRITE = "--rox", "--ro", "--rw"
BASELINE: tuple[tuple[str, str], ...] = (
    *((_RUN, f"/{name}") for name in ("usr", "bin", "sbin", "lib", "lib64", "lib32")),
    *((_READ, path) for path in ("/etc", "/etc/ssl", "/etc/resolv.conf", "/proc")),
    *((_READ, f"/dev/{name}") for name in ("urandom", "random")),
    *((_WRITE, f"/dev/{name}") for name in ("null", "zero", "tty", "pts", "ptmx")),
)
_FLAGS = {"ro": "--ro", "rw": "--rw", "rox": "--rox", "rwx": "--rwx"}


def build_grant_flags(
    *,
    workdir: str,
    engine_cache_dir: str,
    extra_allowed_dirs: Iterable[Any] | None = None,
    host_home: str | None = None,
    extra_baseline: Iterable[tuple[str, str]] | None = None,
) -> list[str]:
    """The arguments that grant all that, and *extra_allowed_dirs*; `~/…` is below *host_home*.

    Raises ValueError for a directory that would grant something else than it says: one that
    stands neither at `/` nor at a home that is known, or climbs by `..`.
    """
    grants = [
        *BASELINE,
        *(extra_baseline or ()),
        ("--rwx", _trimmed(workdir)),
        ("--rox", _trimmed(engine_cache_dir)),
        *((_FLAGS[one.mode], _expanded(one.path, host_home)) for one in extra_allowed_dirs or ()),
    ]
    return [word for grant in grants for word in grant]


def fs_isolation_dirs(config: Any, workdir: str) -> list[tuple[str, str]] | None:
    """What a confined agent hears that it may touch, as (path, mode); None if it is not one."""
    if not config.fs_isolation:
        return None
    extra = [(one.path, one.mode) for one in config.extra_allowed_dirs or ()]
    return [(_trimmed(workdir), "rwx"), *extra]


def _trimmed(path: str) -> str:
    return path.rstrip("/") or "/"


def _expanded(path: str, home: str | None) -> str:
    whole = path
    if home is not None and (path == "~" or path.startswith("~/")):
        whole = home.rstrip("/") + path[1:]
    if not whole.startswith("/") or ".." in whole.split("/"):
        raise ValueError(f"{path!r} cannot be granted: name it from / or ~/ on, without ..")
    return _trimmed(whole)
