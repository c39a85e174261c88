"""Logins of agents (*seeds*) as encrypted archives in the deployment's Mongo, leased from pools.

A seed is a document in the collection PREFIX SUFFIX and an archive (tar.gz, what *encrypt* made of
it) in GridFS; `motor` and `bson` are imported when they are used. A change replaces the archive
only where it is still the one that was changed, or is made again: of two logins that rotate at once
neither is lost. What archives may hold stands in `archives`.

Leases go by the database's clock. What only an operator's database shows (many engines at one pool)
was not at hand: `acquire` is one atomic update.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from .archives import drop_archive, merged, pack, read_archive, store_archive, unpack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LEASE_TTL_SECONDS = 60

_TRIES = 8  # of a change that another one overtakes


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
    blob = await store_archive(
        db, _apply(encrypt, await pack(host, manifest.home_subdir, manifest.include))
    )
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
    _, data = await _load(db, prefix, suffix, seed_id)
    await unpack(host, manifest.home_subdir, manifest.include, _apply(decrypt, data))
    if manifest.consume_transform is not None:
        await manifest.consume_transform(host)


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
    newer = await pack(host, manifest.home_subdir, manifest.include)
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
    await drop_archive(db, blob)


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
        seed, data = await _load(db, prefix, suffix, seed_id)
        old = seed["blobId"]
        new = await store_archive(db, _apply(encrypt, merged(_apply(decrypt, data), newer)))
        taken = await db[f"{prefix}{suffix}"].update_one(
            {"_id": seed["_id"], "blobId": old},
            {"$set": {"blobId": new, "updatedAt": datetime.now(UTC)}},
        )
        await drop_archive(db, old if taken.matched_count else new)
        if taken.matched_count:
            return
    raise RuntimeError(f"the seed {seed_id} is changed by others all the time")


async def _load(db: Any, prefix: str, suffix: str, seed_id: str) -> tuple[dict[str, Any], bytes]:
    """The seed and its archive, which a change may drop between the two. Raises KeyError."""
    while True:
        seed = await _seed(db, prefix, suffix, seed_id)
        try:
            return seed, await read_archive(db, seed["blobId"])
        except Exception:
            if (await _seed(db, prefix, suffix, seed_id))["blobId"] == seed["blobId"]:
                raise


def _apply(change: Callable[[bytes], bytes] | None, data: bytes) -> bytes:
    return data if change is None else change(data)


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
