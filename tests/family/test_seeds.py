"""Logins in a database: what is kept, what lands on a host, and who has one leased."""

from __future__ import annotations

import io
import stat
import tarfile
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from mongomock_motor import AsyncMongoMockClient, enabled_gridfs_integration

from optio_agents import seeds
from optio_agents.hosts.host import LocalHost

WHERE = {"prefix": "p", "suffix": "_logins"}
MANIFEST = seeds.SeedManifest("home", [".agent/auth.json", ".agent/conf", "absent"])


@asynccontextmanager
async def database():
    """A stand-in for a Mongo with GridFS, in memory."""
    with enabled_gridfs_integration():
        yield AsyncMongoMockClient()["deployment"]


@pytest.fixture
async def db():
    async with database() as db:
        yield db


@pytest.fixture
def home(tmp_path):
    """A host with files in an agent's home: (host, home)."""

    @asynccontextmanager
    async def make(name, **files):
        async with LocalHost(str(tmp_path / name)) as host:
            await host.setup_workdir()
            where = Path(host.workdir, "home", ".agent")
            for file, text in files.items():
                path = where / file.replace("__", "/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            yield host, where

    return make


def names_in(path):
    return [one.name for one in path.iterdir()]


def here(host):
    return names_in(Path(host.workdir))


def context(db):
    return SimpleNamespace(_db=db, _prefix="p")


def hide(data):
    return bytes(byte ^ 7 for byte in data)


async def capture(db, host, encrypt=hide):
    return await seeds.capture_seed(
        context(db), host, manifest=MANIFEST, suffix="_logins", encrypt=encrypt
    )


async def merge(db, host, seed_id, manifest=MANIFEST, decrypt=hide):
    await seeds.merge_seed(
        context(db), host, seed_id=seed_id, manifest=manifest, suffix="_logins", decrypt=decrypt
    )


async def archive(db, seed_id):
    seed = await seeds.load_seed(db, seed_id=seed_id, **WHERE)
    return await seeds.read_archive(db, seed["blobId"])


async def test_a_login_is_kept_encrypted_and_laid_over_another_home(db, home):
    async with home("a", **{"auth.json": "TOKEN", "conf__x": "1", "other": "no"}) as (host, _):
        seed_id = await capture(db, host)
        assert here(host) == ["home"]
    data = await archive(db, seed_id)
    with tarfile.open(fileobj=io.BytesIO(hide(data))) as tar:
        names = {one.name for one in tar if one.isreg()}
    assert names == {".agent/auth.json", ".agent/conf/x"}
    async with home("b", **{"auth.json": "old", "conf__y": "2"}) as (host, where):
        fitted = []

        async def fit(at):
            fitted.append(at)

        await merge(db, host, seed_id, seeds.SeedManifest("home", MANIFEST.include, 1, fit))
        assert (where / "auth.json").read_text() == "TOKEN"
        assert stat.S_IMODE((where / "auth.json").stat().st_mode) & 0o077 == 0
        assert (where / "conf/y").read_text() == "2"
        assert fitted == [host]
        assert here(host) == ["home"]


async def test_a_home_without_a_login_makes_no_seed(db, home):
    async with home("a", other="x") as (host, _):
        with pytest.raises(RuntimeError, match="none of it"):
            await capture(db, host)
    assert await seeds.list_seeds(db, **WHERE) == []


async def test_nothing_of_an_archive_lands_beside_what_the_manifest_includes(db, home, tmp_path):
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w:gz") as tar:
        for name in "../out", f"{tmp_path}/abs", ".agent/conf/../../../out", ".bashrc":
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
        link = tarfile.TarInfo(".agent/conf")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(link)
        through = tarfile.TarInfo(".agent/conf/through")
        through.size = 1
        tar.addfile(through, io.BytesIO(b"x"))
        fifo = tarfile.TarInfo(".agent/auth.json")
        fifo.type = tarfile.FIFOTYPE
        tar.addfile(fifo)
    blob = await seeds.store_archive(db, evil.getvalue())
    seed_id = await seeds.insert_seed(db, blob_id=blob, manifest_version=1, **WHERE)
    async with home("a") as (host, where):
        await merge(db, host, seed_id, decrypt=None)
        assert [path.name for path in where.iterdir()] == ["conf"]
        assert (here(host), names_in(where.parent)) == (["home"], [".agent"])
    assert not {"abs", "out", "through"} & set(names_in(tmp_path))


async def test_a_login_that_rotates_is_taken_in_and_the_rest_of_it_stays(db, home):
    async with home("a", **{"auth.json": "1", "conf__x": "x"}) as (host, where):
        seed_id = await capture(db, host)
        (where / "auth.json").write_text("2")
        only = seeds.SeedManifest("home", [".agent/auth.json"])
        await seeds.refresh_seed(
            context(db), host, seed_id=seed_id, manifest=only, suffix="_logins",
            encrypt=hide, decrypt=hide,
        )  # fmt: skip
    assert read(hide(await archive(db, seed_id))) == {".agent/auth.json": "2", ".agent/conf/x": "x"}
    assert await db["fs.files"].count_documents({}) == 1


def read(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {one.name: tar.extractfile(one).read().decode() for one in tar if one.isreg()}


async def test_of_two_that_change_a_login_at_once_neither_is_lost(db, home):
    async with home("a", **{"auth.json": "1"}) as (host, _):
        seed_id = await capture(db, host, encrypt=None)

    async def overwrite(path):
        await seeds.overwrite_seed_member(
            db,
            seed_id=seed_id,
            member_path=path,
            content=b"new",
            encrypt=None,
            decrypt=None,
            **WHERE,
        )

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(overwrite, f".agent/conf/{number}")
    assert len(read(await archive(db, seed_id))) == 5
    assert await db["fs.files"].count_documents({}) == 1
    with pytest.raises(ValueError, match="cannot be"):
        await overwrite("../x")


async def test_a_wrong_key_changes_nothing_on_the_host(db, home):
    async with home("a", **{"auth.json": "1"}) as (host, _):
        seed_id = await capture(db, host)
    async with home("b") as (host, where):
        with pytest.raises(tarfile.ReadError):
            await merge(db, host, seed_id, decrypt=None)
        assert not where.exists()


async def test_a_seed_that_is_purged_leaves_no_archive(db):
    blob = await seeds.store_archive(db, b"x")
    seed_id = await seeds.insert_seed(db, blob_id=blob, manifest_version=3, **WHERE)
    assert [one["seedId"] for one in await seeds.list_seeds(db, **WHERE)] == [seed_id]
    await seeds.purge_seed(db, seed_id=seed_id, **WHERE)
    assert await db["fs.files"].count_documents({}) == 0
    for unknown in seed_id, "no id":
        assert await seeds.load_seed(db, seed_id=unknown, **WHERE) is None
        with pytest.raises(KeyError, match="unknown"):
            await seeds.purge_seed(db, seed_id=unknown, **WHERE)


async def pool(db, count):
    ids = []
    for _ in range(count):
        ids.append(await seeds.insert_seed(db, blob_id=None, manifest_version=1, **WHERE))
        await seeds.assign_to_pool(db, seed_id=ids[-1], poolKey="team", **WHERE)
    return ids


async def acquire(db, holder):
    return await seeds.acquire(db, poolKey="team", holder=holder, **WHERE)


async def test_a_login_is_leased_to_one_at_a_time(db):
    ids = await pool(db, 2)
    held = [await acquire(db, holder) for holder in ("a", "b", "c")]
    assert sorted(filter(None, held)) == sorted(ids)
    assert held[2] is None
    assert await acquire(db, "a") == held[0], "who comes again has the one that it has"
    assert [one["leased"] for one in await seeds.list_pool(db, poolKey="team", **WHERE)] == [
        True
    ] * 2
    await seeds.release(db, seed_id=held[0], holder="b", **WHERE)
    assert await acquire(db, "c") is None, "nobody gives back what another has"
    await seeds.release(db, seed_id=held[0], holder="a", **WHERE)
    assert await acquire(db, "c") == held[0]


async def test_a_lease_runs_out_unless_it_is_renewed(db):
    (seed_id,) = await pool(db, 1)
    await acquire(db, "a")
    first = (await seeds.load_seed(db, seed_id=seed_id, **WHERE))["lease"]["expiresAt"]
    assert await seeds.renew_lease(db, seed_id=seed_id, holder="a", **WHERE)
    assert not await seeds.renew_lease(db, seed_id=seed_id, holder="b", **WHERE)
    seed = await seeds.load_seed(db, seed_id=seed_id, **WHERE)
    assert seed["lease"]["expiresAt"] >= first
    past = {"holder": "a", "expiresAt": datetime.now(UTC) - timedelta(seconds=1)}
    await db["p_logins"].update_one({"_id": seed["_id"]}, {"$set": {"lease": past}})
    assert await acquire(db, "b") == seed_id
    await db["p_logins"].update_one({"_id": seed["_id"]}, {"$set": {"lease": past}})
    assert await seeds.reap_expired_leases(db, **WHERE) == 1
    assert "lease" not in await seeds.load_seed(db, seed_id=seed_id, **WHERE)


async def test_a_login_that_is_dead_is_leased_to_nobody(db):
    (seed_id,) = await pool(db, 1)
    await seeds.mark_seed_status(db, seed_id=seed_id, status="dead", **WHERE)
    await seeds.declare_metadata(db, seed_id=seed_id, metadata={"accounts": [1]}, **WHERE)
    await seeds.declare_metadata(db, seed_id=seed_id, metadata={"more": 2}, **WHERE)
    assert await acquire(db, "a") is None
    (shown,) = await seeds.list_pool(db, poolKey="team", **WHERE)
    assert (shown["status"], shown["metadata"]) == ("dead", {"accounts": [1], "more": 2})
    await seeds.mark_seed_status(db, seed_id=seed_id, status="alive", **WHERE)
    assert await acquire(db, "a") == seed_id
