"""A file from a person lands in the agent's work directory, under its own name."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from optio_agents.context import refuse_links

__all__ = ["UploadCallback", "materialize", "safe_upload_relpath", "upload_url_token"]

UploadCallback: TypeAlias = Callable[[Any, str], Awaitable[None]]
"""`on_upload(hook_ctx, path)`: *path* is relative to the work directory."""

_log = logging.getLogger(__name__)
_LONGEST = 255  # bytes of a name that file systems take


def safe_upload_relpath(filename: str) -> str:
    """Where *filename* lands: `uploads/` and its last part. Raises ValueError for none."""
    name = filename.replace("\\", "/").rpartition("/")[2].strip()
    if name in ("", ".", "..") or "\0" in name or len(name.encode()) > _LONGEST:
        raise ValueError(f"{filename!r} is no name of a file")
    return f"uploads/{name}"


def upload_url_token(database: str, prefix: str, process_id: str) -> str:
    """Where a view sends files for this process to."""
    return f"{{widgetProxyUrl}}../../../../widget-upload/{database}/{prefix}/{process_id}"


async def materialize(
    host: Any,
    workdir: str,
    filename: str,
    data: bytes,
    hook_ctx: Any = None,
    on_upload: UploadCallback | None = None,
) -> str:
    """Put *data* there, whole or not at all; gives the path relative to *workdir*.

    What *on_upload* raises is logged: the file is there. Raises ValueError, also where `uploads`
    was made a link that leads out of *workdir*, and what the host raises.
    """
    path = safe_upload_relpath(filename)
    where = posixpath.join(workdir, path)
    if hasattr(host, "run_command"):
        await refuse_links(host, workdir, where)
    await host.put_file_to_host(data, where)
    if on_upload is not None:
        try:
            await on_upload(hook_ctx, path)
        except Exception:
            _log.warning("on_upload raised for %s", path, exc_info=True)
    return path
