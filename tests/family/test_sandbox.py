"""What a confined agent may touch, and the program that confines it."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from optio_agents import claustrum
from optio_agents.fs_grants import BASELINE, build_grant_flags, fs_isolation_dirs
from optio_agents.hosts.host import LocalHost


def allowed(path, mode="ro"):
    return SimpleNamespace(path=path, mode=mode)


def grants(*extra, **options):
    flags = build_grant_flags(
        workdir="/wd/", engine_cache_dir="/cache/", extra_allowed_dirs=extra, **options
    )
    return list(zip(flags[::2], flags[1::2], strict=True))


def test_the_work_directory_and_the_engine_are_granted_beside_the_system():
    assert grants() == [*BASELINE, ("--rwx", "/wd"), ("--rox", "/cache")]
    assert not [path for _, path in BASELINE if path.startswith(("/home", "/root", "/tmp"))]


def test_what_the_task_allows_is_granted_as_it_says():
    modes = {"ro": "--ro", "rw": "--rw", "rox": "--rox", "rwx": "--rwx"}
    for mode, flag in modes.items():
        assert grants(allowed("~/data/", mode), host_home="/h/")[-1] == (flag, "/h/data")
    assert ("--rw", "/tmp") in grants(extra_baseline=[("--rw", "/tmp")])


@pytest.mark.parametrize("path", ["data", "~/data", "~somebody/x", "/data/../etc", ""])
def test_what_would_grant_something_else_is_refused(path):
    with pytest.raises(ValueError, match="cannot be granted"):
        grants(allowed(path))


def test_an_agent_is_told_what_it_may_touch():
    config = SimpleNamespace(fs_isolation=True, extra_allowed_dirs=[allowed("~/x")])
    assert fs_isolation_dirs(config, "/wd/") == [("/wd", "rwx"), ("~/x", "ro")]
    config.fs_isolation = False
    assert fs_isolation_dirs(config, "/wd") is None


PRETENDER = '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift\n{} exec "$@"\n'
DEAF = "exit 3;"  # a kernel that cannot confine
CONFINES = '[ "$3" = \'\' ] && set -- sh -c "cat() { return 1; }; ${2#*cat}"; '


@pytest.fixture
async def host(tmp_path):
    async with LocalHost(str(tmp_path / "task")) as host:
        await host.setup_workdir()
        yield host


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.parametrize("text", [PRETENDER.format(""), PRETENDER.format(DEAF), "no program"])
async def test_what_does_not_confine_is_no_sandbox(host, tmp_path, text):
    put(tmp_path / "it", text)
    assert not await claustrum.claustrum_works(host, str(tmp_path / "it"))
    assert not await claustrum.claustrum_works(host, str(tmp_path / "missing"))


async def test_without_a_compiler_there_is_none_and_that_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RuntimeError, match="has no git"):
        await claustrum.build_claustrum_on_engine("amd64", "v1", f"{tmp_path}/here/claustrum")
    assert not list(tmp_path.iterdir())


async def test_one_that_was_built_and_does_not_confine_there_is_an_error(host, tmp_path):
    processor = await claustrum.detect_goarch(host)
    place = f"claustrum/{claustrum.CLAUSTRUM_PINNED_TAG}/{processor}/claustrum"
    put(tmp_path / "here" / place, "\x7fELF of another machine")
    assert claustrum.is_elf(str(tmp_path / "here" / place))
    with pytest.raises(RuntimeError, match="does not confine"):
        await claustrum.ensure_claustrum_installed(
            host, cache_dir=f"{tmp_path}/there", engine_cache_dir=f"{tmp_path}/here"
        )
    assert os.access(tmp_path / "there" / place, os.X_OK)


@pytest.mark.parametrize("tag", ["--upload-pack=x", "../../x", "main", ""])
async def test_a_version_is_a_version(host, tmp_path, tag):
    with pytest.raises(ValueError, match="version"):
        await claustrum.build_claustrum_on_engine("amd64", tag, f"{tmp_path}/x")


async def test_a_newer_version_is_delivered_as_a_file_to_audit(host):
    delivered = []

    async def on_deliverable(*what):
        delivered.append(what)

    await claustrum.emit_claustrum_update_notice(
        host,
        "the hook",
        delivery_type="audit",
        on_deliverable=on_deliverable,
        newer="v9",
        pinned="v1",
    )
    hook, path, text = delivered[0]
    assert (hook, path) == ("the hook", "audit/claustrum-update-v9.md")
    assert (await host.run_command(f"cat deliverables/{path}", cwd=host.workdir)).stdout == text
