"""Logins of agents (*seeds*) as encrypted archives in the deployment's Mongo, leased from pools.

A seed is a document in the collection PREFIX SUFFIX and an archive (tar.gz, what *encrypt* made of
it) in GridFS; `motor` and `bson` are imported when they are used. What leaves
an archive for a host is a file, directory or link with a plain name below what the manifest
includes, and nothing through a link; the archives that lie on a host for a moment are this user's
alone, under a name nobody can foresee. A change replaces the archive only where it is still the one
that was changed, or is made again: of two logins that rotate at once neither is lost.

Leases go by the database's clock. What only an operator's database shows (many engines at one pool)
was not at hand: `acquire` is one atomic update.
"""

from __future__ import annotations

import io
import logging
import posixpath
import secrets
import shlex
import tarfile
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.hosts.files.archive import TarFilter
from optio_agents.hosts.scripting import script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

LEASE_TTL_SECONDS = 60

_log = logging.getLogger(__name__)
_TRIES = 8  # of a change that another one overtakes
_CLEANING = 10.0  # seconds


@dataclass
class SeedManifest:
    """What of an agent's home makes its login; *consume_transform* fits it to the host it is on."""

    home_subdir: str  # of the work directory
    include: list[str]  # files and directories below it, by name
    version: int = 1
    consume_transform: Callable[[Any], Awaitable[None]] | None = None


# The archives, of a host and in the database


async def capture_seed(
    ctx: Any,
    host: Any,
    *,
    manifest: SeedManifest,
    suffix: str,
    encrypt: Callable[[bytes], bytes] | None,
) -> str:
    """Keep the login on *host* as a new seed, and give its id. Raises RuntimeError: none there."""
    db, prefix = _database(ctx)
    blob = await store_archive(db, _apply(encrypt, await _pack(host, manifest)))
    return await insert_seed(
        db,
        prefix=prefix,
        suffix=suffix,
        blob_id=blob,
        manifest_version=manifest.version,
    )


async def merge_seed(
    ctx: Any,
    host: Any,
    *,
    seed_id: str,
    manifest: SeedManifest,
    suffix: str,
    decrypt: Callable[[bytes], bytes] | None,
) -> None:
    """Lay the login over the home on *host*: what it has is replaced, the rest stays.

    Raises KeyError for an unknown seed, and what *decrypt* raises.
    """
    db, prefix = _database(ctx)
    await plant_seed(
        db,
        host,
        prefix=prefix,
        seed_id=seed_id,
        manifest=manifest,
        suffix=suffix,
        decrypt=decrypt,
    )


async def plant_seed(
    db: Any,
    host: Any,
    *,
    prefix: str,
    seed_id: str,
    manifest: SeedManifest,
    suffix: str,
    decrypt: Callable[[bytes], bytes] | None,
) -> None:
    """`merge_seed`, where there is no context."""
    seed = await _seed(db, prefix, suffix, seed_id)
    await _unpack(host, manifest, _apply(decrypt, await read_archive(db, seed["blobId"])))


async def refresh_seed(
    ctx: Any,
    host: Any,
    *,
    seed_id: str,
    manifest: SeedManifest,
    suffix: str,
    encrypt: Callable[[bytes], bytes] | None,
    decrypt: Callable[[bytes], bytes] | None,
) -> None:
    """Take what *manifest* includes from *host* into the seed; the rest of it stays as it is."""
    db, prefix = _database(ctx)
    await _seed(db, prefix, suffix, seed_id)
    newer = await _pack(host, manifest)
    await _overlay(db, prefix, suffix, seed_id, newer, encrypt, decrypt)


async def overwrite_seed_member(
    db: Any,
    *,
    prefix: str,
    suffix: str,
    seed_id: str,
    member_path: str,
    content: bytes,
    encrypt: Callable[[bytes], bytes] | None,
    decrypt: Callable[[bytes], bytes] | None,
) -> None:
    """Replace one file of the seed, or add it."""
    if member_path.startswith("/") or ".." in member_path.split("/"):
        raise ValueError(f"{member_path!r} cannot be a file of a seed")
    newer = io.BytesIO()
    with tarfile.open(fileobj=newer, mode="w:gz") as tar:
        member = tarfile.TarInfo(member_path)
        member.size, member.mode = len(content), 0o600
        tar.addfile(member, io.BytesIO(content))
    await _overlay(db, prefix, suffix, seed_id, newer.getvalue(), encrypt, decrypt)


async def purge_seed(db: Any, *, prefix: str, suffix: str, seed_id: str) -> None:
    """Delete the seed and its archive. Raises KeyError for an unknown one."""
    blob = await delete_seed(db, prefix=prefix, suffix=suffix, seed_id=seed_id)
    if blob is None:
        raise KeyError(f"unknown seed_id: {seed_id!r}")
    await _drop(db, blob)


def _database(ctx: Any) -> tuple[Any, str]:
    """The deployment's, and what its collections begin with, as its contexts have them."""
    return ctx._db, ctx._prefix  # noqa: SLF001


async def _overlay(
    db: Any,
    prefix: str,
    suffix: str,
    seed_id: str,
    newer: bytes,
    encrypt: Callable[[bytes], bytes] | None,
    decrypt: Callable[[bytes], bytes] | None,
) -> None:
    """Put *newer*, a tar.gz, over the seed's archive; again where another change came between."""
    for _ in range(_TRIES):
        seed = await _seed(db, prefix, suffix, seed_id)
        old = seed["blobId"]
        merged = _merged(_apply(decrypt, await read_archive(db, old)), newer)
        new = await store_archive(db, _apply(encrypt, merged))
        taken = await db[f"{prefix}{suffix}"].update_one(
            {"_id": seed["_id"], "blobId": old},
            {"$set": {"blobId": new, "updatedAt": datetime.now(UTC)}},
        )
        await _drop(db, old if taken.matched_count else new)
        if taken.matched_count:
            return
    raise RuntimeError(f"the seed {seed_id} is changed by others all the time")


def _apply(change: Callable[[bytes], bytes] | None, data: bytes) -> bytes:
    return data if change is None else change(data)


def _merged(old: bytes, newer: bytes) -> bytes:
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
    wanted, result = [posixpath.normpath(path) for path in include], io.BytesIO()
    pure = TarFilter()
    with tarfile.open(fileobj=io.BytesIO(archive)) as source:
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as tar:
            for one in source:
                name = posixpath.normpath(one.name)
                below = any(name == path or name.startswith(f"{path}/") for path in wanted)
                if below and (one.isreg() or one.isdir() or one.issym()):
                    one.mode &= 0o700
                    tar.addfile(one, source.extractfile(one) if one.isreg() else None)
    result.write(pure.feed(plain.getvalue()))
    result.write(pure.close())
    if pure.left_out:
        _log.warning("%d entries of a seed were left out", len(pure.left_out))
    return result.getvalue()


async def _pack(host: Any, manifest: SeedManifest) -> bytes:
    """What *manifest* includes of the home on *host*, as a tar.gz. Raises RuntimeError."""
    home = posixpath.join(host.workdir, manifest.home_subdir)
    async with _scratch(host) as place:
        await _run(host, "the login could not be read", "seed_pack", home, place, *manifest.include)
        data: bytes = await host.fetch_bytes_from_host(place)
        return data


async def _unpack(host: Any, manifest: SeedManifest, archive: bytes) -> None:
    home = posixpath.join(host.workdir, manifest.home_subdir)
    async with _scratch(host) as place:
        await host.put_file_to_host(_permitted(archive, manifest.include), place)
        await _run(host, "the login could not be laid out", "seed_unpack", home, place)
    if manifest.consume_transform is not None:
        await manifest.consume_transform(host)


@asynccontextmanager
async def _scratch(host: Any) -> AsyncIterator[str]:
    """A place for an archive, which is this user's alone and gone behind the block."""
    place = posixpath.join(host.workdir, f".optio-seed-{secrets.token_hex(8)}")
    await _run(host, "there is no place for an archive", "seed_place", place)
    try:
        yield place
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(_CLEANING), suppress(Exception):
            await host.run_command(f"rm -f {shlex.quote(place)}")


async def _run(host: Any, failure: str, name: str, *args: str) -> None:
    text = script(f"family/machinery/{name}")
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


async def _drop(db: Any, blob: Any) -> None:
    """Delete an archive that nothing names any more; one that is gone is well gone."""
    try:
        await _bucket(db).delete(blob)
    except Exception as error:
        _log.debug("the archive %s could not be deleted: %s", blob, type(error).__name__)


# The documents


async def insert_seed(
    db: Any, *, prefix: str, suffix: str, blob_id: Any, manifest_version: int
) -> str:
    """Name an archive that is stored as a seed, and give the seed's id."""
    seed = {
        "createdAt": datetime.now(UTC),
        "blobId": blob_id,
        "manifestVersion": manifest_version,
    }
    return str((await db[f"{prefix}{suffix}"].insert_one(seed)).inserted_id)


async def load_seed(db: Any, *, prefix: str, suffix: str, seed_id: str) -> dict[str, Any] | None:
    """The seed's document; None if there is none of this id."""
    key = _key(seed_id)
    found: dict[str, Any] | None = key and await db[f"{prefix}{suffix}"].find_one({"_id": key})
    return found


async def list_seeds(db: Any, *, prefix: str, suffix: str) -> list[dict[str, Any]]:
    """The ids of all seeds and when they were made, oldest first."""
    found = db[f"{prefix}{suffix}"].find({}).sort("createdAt", 1)
    return [{"seedId": str(one["_id"]), "createdAt": one["createdAt"]} async for one in found]


async def delete_seed(db: Any, *, prefix: str, suffix: str, seed_id: str) -> Any:
    """Forget the seed and give the id of its archive; None if there is no such seed."""
    key = _key(seed_id)
    gone = key and await db[f"{prefix}{suffix}"].find_one_and_delete({"_id": key})
    return gone["blobId"] if gone else None


async def update_seed_blob(
    db: Any, *, prefix: str, suffix: str, seed_id: str, new_blob_id: Any
) -> None:
    """Let the seed be another archive."""
    await _set(db, prefix, suffix, seed_id, {"blobId": new_blob_id, "updatedAt": datetime.now(UTC)})


async def declare_metadata(
    db: Any, *, prefix: str, suffix: str, seed_id: str, metadata: dict[str, Any]
) -> None:
    """Add what is known of the login, such as its accounts."""
    new = {f"metadata.{name}": value for name, value in metadata.items()}
    await _set(db, prefix, suffix, seed_id, {**new, "updatedAt": datetime.now(UTC)})


async def mark_seed_status(db: Any, *, prefix: str, suffix: str, seed_id: str, status: str) -> None:
    """A seed that is "dead" is leased to nobody."""
    await _set(db, prefix, suffix, seed_id, {"status": status})


async def _set(db: Any, prefix: str, suffix: str, seed_id: str, new: dict[str, Any]) -> None:
    if (key := _key(seed_id)) is not None:
        await db[f"{prefix}{suffix}"].update_one({"_id": key}, {"$set": new})


async def _seed(db: Any, prefix: str, suffix: str, seed_id: str) -> dict[str, Any]:
    found = await load_seed(db, prefix=prefix, suffix=suffix, seed_id=seed_id)
    if found is None:
        raise KeyError(f"unknown seed_id: {seed_id!r}")
    return found


def _key(seed_id: object) -> Any:
    from bson import ObjectId  # of the deployment's driver

    return ObjectId(seed_id) if isinstance(seed_id, str) and ObjectId.is_valid(seed_id) else None


# Leases


async def assign_to_pool(
    db: Any,
    *,
    prefix: str,
    suffix: str,
    seed_id: str,
    poolKey: str,  # noqa: N803
) -> None:
    """Let the seed be leased from the pool *poolKey*."""
    await _set(db, prefix, suffix, seed_id, {"poolKey": poolKey, "updatedAt": datetime.now(UTC)})


async def list_pool(
    db: Any,
    *,
    prefix: str,
    suffix: str,
    poolKey: str,  # noqa: N803
) -> list[dict[str, Any]]:
    """The seeds of a pool, and how each stands."""
    now = await _now(db)
    return [
        {
            "seedId": str(one["_id"]),
            "status": one.get("status"),
            "leased": _aware(one.get("lease", {}).get("expiresAt")) > now,
            "lastRefreshedAt": one.get("updatedAt"),
            "lastVerifiedAt": one.get("lastVerifiedAt"),
            "createdAt": one.get("createdAt"),
            "metadata": one.get("metadata"),
        }
        async for one in db[f"{prefix}{suffix}"].find({"poolKey": poolKey}).sort("createdAt", 1)
    ]


async def acquire(
    db: Any,
    *,
    prefix: str,
    suffix: str,
    poolKey: str,  # noqa: N803
    holder: str,
) -> str | None:
    """Lease a seed of the pool to *holder* for 60 s, or the one it has again; None: all are out."""
    now = await _now(db)
    seeds = db[f"{prefix}{suffix}"]
    alive = {"poolKey": poolKey, "status": {"$ne": "dead"}}
    free = [{"lease": None}, {"lease.expiresAt": None}, {"lease.expiresAt": {"$lte": now}}]
    for whose in {"lease.holder": holder}, {"$or": free}:
        found = await seeds.find_one_and_update(
            {**alive, **whose}, {"$set": {"lease": _lease(holder, now)}}, sort=[("createdAt", 1)]
        )
        if found:
            return str(found["_id"])
    return None


async def renew_lease(db: Any, *, prefix: str, suffix: str, seed_id: str, holder: str) -> bool:
    """60 s more from now on; False if it is not leased to *holder* any more."""
    if (key := _key(seed_id)) is None:
        return False
    new = {"$set": {"lease": _lease(holder, await _now(db))}}
    done = await db[f"{prefix}{suffix}"].update_one({"_id": key, "lease.holder": holder}, new)
    return bool(done.matched_count)


async def release(db: Any, *, prefix: str, suffix: str, seed_id: str, holder: str) -> None:
    """Give back what *holder* has leased; what somebody else has stays with them."""
    if (key := _key(seed_id)) is not None:
        held = {"_id": key, "lease.holder": holder}
        await db[f"{prefix}{suffix}"].update_one(held, {"$unset": {"lease": ""}})


async def reap_expired_leases(db: Any, *, prefix: str, suffix: str) -> int:
    """Forget the leases that have run out, and say how many."""
    over = {"lease.expiresAt": {"$lte": await _now(db)}}
    done = await db[f"{prefix}{suffix}"].update_many(over, {"$unset": {"lease": ""}})
    return int(done.modified_count)


def _lease(holder: str, now: datetime) -> dict[str, Any]:
    return {"holder": holder, "expiresAt": now + timedelta(seconds=LEASE_TTL_SECONDS)}


async def _now(db: Any) -> datetime:
    """By the database's clock, which all engines share; by ours where it tells no time.

    Read before the update that it is for, so a delay between the two makes a lease shorter and
    takes none too early.
    """
    try:
        told = (await db.command("hello"))["localTime"]
    except Exception:  # the stand-in for tests knows no such command
        return datetime.now(UTC)
    return _aware(told)


def _aware(at: object) -> datetime:
    if not isinstance(at, datetime):
        return datetime.min.replace(tzinfo=UTC)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
