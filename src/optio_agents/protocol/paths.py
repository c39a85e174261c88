"""Deliverable paths as local callers see them: text only; links are for the host to resolve."""

from os.path import normpath
from pathlib import Path, PurePosixPath

DELIVERABLES = "deliverables"


def validate_deliverable_path(path: str, workdir: str) -> str:
    """*path*, absolute or relative to *workdir*, as an absolute and normalised path.

    Raises:
        ValueError: it leads out of *workdir*, or no file can have that name.
    """
    if "\0" in path:
        raise ValueError(f"no file can be named {path!r}")
    root = _normal(PurePosixPath(Path(workdir).absolute()))
    target = _normal(root / path)
    if not target.is_relative_to(root):
        raise ValueError(f"deliverable {path!r} leads out of {str(root)!r}, to {str(target)!r}")
    return str(target)


def relativize_deliverable_path(absolute: str, workdir: str) -> str:
    """*absolute*, normalised and relative to the deliverables directory of *workdir*.

    Raises:
        ValueError: it is that directory itself, or not inside it.
    """
    root = _normal(PurePosixPath(Path(workdir).absolute())) / DELIVERABLES
    target = _normal(PurePosixPath(absolute))
    if root not in target.parents:
        raise ValueError(f"{absolute!r} is not inside {str(root)!r}")
    return str(target.relative_to(root))


def _normal(path: PurePosixPath) -> PurePosixPath:
    """Without `..`, and with one slash in front where POSIX would keep two."""
    text = normpath(path)
    return PurePosixPath("/" + text.lstrip("/") if path.is_absolute() else text)
