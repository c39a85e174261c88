"""A login as an archive: on a host, on its way, and in the deployment's GridFS.

What leaves an archive for a host is a file, directory or link with a plain name below what was
asked for, nobody else's to read, and nothing through a link. An archive that lies on a host for a
moment is this user's alone, under a name nobody can foresee.
"""

from __future__ import annotations

import io
import logging
import posixpath
import secrets
import shlex
import tarfile
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.hosts.files.archive import TarFilter
from optio_agents.hosts.scripting import script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

_log = logging.getLogger(__name__)
_CLEANING = 10.0  # seconds


def merged(old: bytes, newer: bytes) -> bytes:
    """The members of both, of one name the newer one."""
    result = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(old)) as below,
        tarfile.open(fileobj=io.BytesIO(newer)) as above,
        tarfile.open(fileobj=result, mode="w:gz") as tar,
    ):
        replaced = {posixpath.normpath(one.name) for one in above if not one.isdir()}
        for source in below, above:
            for one in source:
                if source is above or posixpath.normpath(one.name) not in replaced:
                    tar.addfile(one, source.extractfile(one) if one.isreg() else None)
    return result.getvalue()


def _permitted(archive: bytes, include: Sequence[str]) -> bytes:
    """What of *archive* may land in a home; hard links and devices are no part of a login."""
    wanted, plain = [posixpath.normpath(path) for path in include], io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as source,
        tarfile.open(fileobj=plain, mode="w") as tar,
    ):
        for one in source:
            name = posixpath.normpath(one.name)
            below = any(name == path or name.startswith(f"{path}/") for path in wanted)
            if below and (one.isreg() or one.isdir() or one.issym()):
                one.mode &= 0o700
                tar.addfile(one, source.extractfile(one) if one.isreg() else None)
    pure = TarFilter()
    result = pure.feed(plain.getvalue()) + pure.close()
    if pure.left_out:
        _log.warning("%d entries of a seed were left out", len(pure.left_out))
    return result


async def pack(host: Any, home_subdir: str, include: Sequence[str]) -> bytes:
    """What there is of *include* in the home on *host*, as a tar.gz. Raises RuntimeError."""
    home = posixpath.join(host.workdir, home_subdir)
    async with _scratch(host) as place:
        await _run(host, "the login could not be read", "pack", home, place, *include)
        data: bytes = await host.fetch_bytes_from_host(place)
        return data


async def unpack(host: Any, home_subdir: str, include: Sequence[str], archive: bytes) -> None:
    """Lay what *include* names of *archive* over the home on *host*. Raises RuntimeError."""
    home = posixpath.join(host.workdir, home_subdir)
    async with _scratch(host) as place:
        await host.put_file_to_host(_permitted(archive, include), place)
        await _run(host, "the login could not be laid out", "unpack", home, place)


@asynccontextmanager
async def _scratch(host: Any) -> AsyncIterator[str]:
    """A place for an archive, which is this user's alone and gone behind the block."""
    place = posixpath.join(host.workdir, f".optio-seed-{secrets.token_hex(8)}")
    await _run(host, "there is no place for an archive", "place", place)
    try:
        yield place
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(_CLEANING), suppress(Exception):
            await host.run_command(f"rm -f {shlex.quote(place)}")


async def _run(host: Any, failure: str, name: str, *args: str) -> None:
    text = script(f"family/machinery/seeds/{name}")
    result = await host.run_command(f"sh -c {shlex.quote(text)} {shlex.join([name, *args])}")
    if result.exit_code != 0:
        raise RuntimeError(f"{failure}: {result.stderr.strip()[-400:]}")


def _bucket(db: Any) -> Any:
    from motor.motor_asyncio import AsyncIOMotorGridFSBucket  # the deployment's

    return AsyncIOMotorGridFSBucket(db)


async def read_archive(db: Any, blob: Any) -> bytes:
    stream = await _bucket(db).open_download_stream(blob)
    data: bytes = await stream.read()
    return data


async def store_archive(db: Any, data: bytes) -> Any:
    return await _bucket(db).upload_from_stream("seed", data)


async def drop_archive(db: Any, blob: Any) -> None:
    """Delete an archive that nothing names any more; one that is gone is well gone."""
    try:
        await _bucket(db).delete(blob)
    except Exception as error:
        _log.debug("the archive %s could not be deleted: %s", blob, type(error).__name__)
