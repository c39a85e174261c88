"""The sandbox of the engines: an external program, claustrum, that confines what it starts.

claustrum (Landlock, in Go) is cloned from CLAUSTRUM_REPO at its pinned tag and compiled where the
engine runs, for the host's processor; then it is put there and tried. Whatever of that fails
raises: an agent that is to be confined is never started without. It is built as far as the engines'
own tests reach: no Go compiler and no such repository stood beside it.
"""

from __future__ import annotations

import logging
import posixpath
import re
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

CLAUSTRUM_REPO = "https://github.com/deai-network/claustrum"
CLAUSTRUM_PINNED_TAG = "v0.1.2"

_log = logging.getLogger(__name__)
_TAG = re.compile(r"v?[0-9][0-9A-Za-z.+-]*")
_PROCESSORS = {"x86_64": "amd64", "aarch64": "arm64"}
_BUILDING = 900.0  # seconds
_CONFINED = "confined and alive"


async def ensure_claustrum_installed(
    host: Any,
    *,
    cache_dir: str,
    engine_cache_dir: str,
    tag: str = CLAUSTRUM_PINNED_TAG,
    report_progress: Callable[[float | None, str], None] | None = None,
) -> str:
    """The path of a claustrum on *host* that was seen to confine; built and put there if need be.

    Raises RuntimeError where there is none: no Linux, no Landlock, no compiler.
    """
    processor = await detect_goarch(host)
    place = f"claustrum/{_checked(tag)}/{processor}/claustrum"
    there = f"{cache_dir.rstrip('/')}/{place}"
    if await claustrum_works(host, there):
        return there
    built = Path(engine_cache_dir) / place
    if not is_elf(str(built)):
        if report_progress is not None:
            report_progress(None, f"Building the sandbox (claustrum {tag})…")
        await build_claustrum_on_engine(processor, tag, str(built))
    if report_progress is not None:
        report_progress(None, "Installing the sandbox…")
    data = await anyio.to_thread.run_sync(built.read_bytes)
    unsure = f"{there}.{secrets.token_hex(8)}"
    await _run(host, f"mkdir -p {shlex.quote(posixpath.dirname(there))}")
    await host.put_file_to_host(data, unsure)
    await _run(host, f"chmod 755 {shlex.quote(unsure)} && mv -f {shlex.join([unsure, there])}")
    if not await claustrum_works(host, there):
        raise RuntimeError("the sandbox does not confine on this host: its kernel lacks Landlock?")
    return there


async def detect_goarch(host: Any) -> str:
    """Go's name of the host's processor. Raises RuntimeError where claustrum does not run."""
    system = (await host.run_command("uname -s")).stdout.strip()
    if system != "Linux":
        raise RuntimeError(f"claustrum confines on Linux only, and this host says {system[:40]!r}")
    machine = (await host.run_command("uname -m")).stdout.strip()
    if machine not in _PROCESSORS:
        raise RuntimeError(f"claustrum is not built for the processor {machine[:40]!r}")
    return _PROCESSORS[machine]


async def claustrum_works(host: Any, path: str) -> bool:
    """A program runs under it there, and cannot read what it was not granted."""
    granted = [word for name in ("usr", "bin", "lib", "lib64") for word in ("--rox", f"/{name}")]
    wrap = shlex.join(build_claustrum_wrap(path, granted))
    attempt = f"cat /etc/passwd >/dev/null 2>&1 || echo {shlex.quote(_CONFINED)}"
    result = await host.run_command(f"{wrap} /bin/sh -c {shlex.quote(attempt)} 2>/dev/null || true")
    return bool(result.stdout.strip() == _CONFINED)


def build_claustrum_wrap(claustrum_path: str, grants: Sequence[str]) -> list[str]:
    """What stands in front of a command that is to be confined to *grants*."""
    return [claustrum_path, "--best-effort", "--abi-min", "1", *grants, "--"]


async def build_claustrum_on_engine(goarch: str, tag: str, dest: str) -> None:
    """Clone and compile *tag* for *goarch* on this machine; *dest* is there whole or not at all.

    At most 15 minutes. Raises RuntimeError.
    """
    version = _checked(tag)
    for needed in ("git", "go"):
        if shutil.which(needed) is None:
            raise RuntimeError(f"the sandbox is compiled on this machine, which has no {needed}")
    target = Path(dest)
    await anyio.to_thread.run_sync(lambda: target.parent.mkdir(parents=True, exist_ok=True))
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch, anyio.fail_after(_BUILDING):
        source, made = f"{scratch}/source", f"{scratch}/claustrum"
        clone = ["git", "clone", "-q", "--depth", "1", "--branch", version]
        await _build([*clone, "--", CLAUSTRUM_REPO, source])
        flags = ["env", "CGO_ENABLED=0", "GOOS=linux", f"GOARCH={goarch}"]
        await _build([*flags, "go", "build", "-trimpath", "-o", made, "."], cwd=source)
        if not is_elf(made):
            raise RuntimeError("the compiler made no Linux program of the sandbox")
        await anyio.to_thread.run_sync(Path(made).replace, target)


def is_elf(path: str) -> bool:
    """It is a program for Linux, as far as its first bytes say."""
    with suppress(OSError), Path(path).open("rb") as file:
        return file.read(4) == b"\x7fELF"
    return False


async def emit_claustrum_update_notice(
    host: Any,
    hook_ctx: Any,
    *,
    delivery_type: str,
    on_deliverable: Callable[..., Any] | None,
    newer: str,
    pinned: str,
) -> None:
    """Deliver a file, of this *delivery_type*, that tells of a *newer* version to be audited."""
    path = f"{delivery_type}/claustrum-update-{_checked(newer)}.md"
    if "/" in delivery_type or delivery_type in {"", ".", ".."}:
        raise ValueError(f"{delivery_type!r} cannot be the name of a directory")
    text = (
        f"The sandbox claustrum has a newer version, {newer}; {pinned} is used. "
        "Audit it before the pin is moved.\n"
    )
    await host.write_text(f"deliverables/{path}", text)
    if on_deliverable is not None:
        await on_deliverable(hook_ctx, path, text)


def _checked(tag: str) -> str:
    if not _TAG.fullmatch(tag):
        raise ValueError(f"{tag!r} cannot be a version of claustrum")
    return tag


async def _run(host: Any, command: str) -> None:
    result = await host.run_command(command)
    if result.exit_code != 0:
        why = (result.stderr or "").strip()[-400:]
        raise RuntimeError(f"the sandbox could not be installed: {why or 'no reason given'}")


async def _build(argv: Sequence[str], cwd: str | None = None) -> None:
    result = await anyio.run_process(list(argv), cwd=cwd, check=False)
    if result.returncode != 0:
        why = result.stderr.decode(errors="replace").strip()[-400:]
        raise RuntimeError(f"the sandbox could not be built ({argv[0]}): {why}")
