"""One engine of the family with its real CLI: `python real_engine.py ENGINE PROGRAM`, says JSON.

It runs where the engines are installed with us in their place: a real optio-core takes a task of
the engine's, whose CLI asks a model on loopback. A task is driven to DONE with a deliverable; one
is cancelled in mid-turn, resumed, and driven to DONE. The database is an in-memory stand-in.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mongomock_motor import AsyncMongoMockClient, enabled_gridfs_integration
from optio_core.lifecycle import Optio

from optio_agents.testing.model_server import ModelServer, scripted

BOUND = 240.0  # seconds that nothing takes
LOG = ">> optio.log"
REPORT = f"""\
mkdir -p deliverables; echo forty-two > deliverables/r.txt; \
echo 'DELIVERABLE: ./deliverables/r.txt' {LOG}"""


@dataclass(frozen=True)
class Engine:
    """What is peculiar to one."""

    settings: Callable[[str], dict[str, Any]]  # of its task, for a model at that address
    files: Callable[[str, str], dict[str, str]]  # in the work directory, with the address and that
    cached: str  # where it keeps its CLI, below the home
    shell: Callable[[str], dict[str, Any]] = lambda command: {"shell": command}


def _opencode(url: str) -> dict[str, Any]:
    provider = {"anthropic": {"options": {"baseURL": f"{url}/v1", "apiKey": "dummy-key"}}}
    model = "anthropic/claude-sonnet-4-5"
    settings = {"provider": provider, "model": model, "autoupdate": False}
    return {"opencode_config": settings, "model": model}


def _codex_files(url: str, workdir: str) -> dict[str, str]:
    settings = (
        'model = "gpt-5"\nmodel_provider = "x"\n[model_providers.x]\nname = "x"\n'
        f'base_url = "{url}/v1"\nenv_key = "X_KEY"\nwire_api = "responses"\n'
        f'[projects."{workdir}"]\ntrust_level = "trusted"\n'
    )
    return {"home/.codex/config.toml": settings}


ENGINES = {
    "opencode": Engine(
        _opencode,
        lambda url, workdir: {
            "home/.local/share/opencode/auth.json": json.dumps(
                {"anthropic": {"type": "api", "key": "dummy-key"}}
            )
        },
        ".cache/optio-opencode/bin/opencode",
    ),
    "codex": Engine(
        lambda url: {"env": {"X_KEY": "dummy-key"}},
        _codex_files,
        ".cache/optio-codex/bin/codex",
        # by itself the model would ask for more than the engine's sandbox lets it have
        lambda command: {"tool": "exec_command", "input": {"cmd": command}},
    ),
}


def settle(root: Path, engine: str, program: Path) -> None:
    """A home with the CLI where the engine caches it, and no network to ask for a newer one."""
    cached = root / "home" / ENGINES[engine].cached
    cached.parent.mkdir(parents=True)
    cached.symlink_to(program)
    actions = importlib.import_module(f"optio_{engine}.host_actions")
    if pinned := getattr(actions, f"_{engine.upper()}_VERSION", None):
        cached.with_name(f"{engine}.version").write_text(pinned)
    curl = root / "bin" / "curl"  # fetches the installer, which says that all is up to date
    curl.parent.mkdir()
    curl.write_text(f"#!/bin/sh\nprintf 'echo {engine} ok\\n'\n")
    curl.chmod(0o755)
    (root / "t").mkdir()
    os.environ["PATH"] = f"{curl.parent}:{os.defpath}"
    os.environ["HOME"] = str(root / "home")
    os.environ[f"OPTIO_{engine.upper()}_TASK_ROOT"] = str(root / "t")


def left(root: Path) -> list[str]:
    """What still runs of all that was started below *root*."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(root).encode() in (place / "cmdline").read_bytes():
                found.append((place / "comm").read_text().strip())
    return found


async def until(condition: Callable[[], Any]) -> Any:
    async with asyncio.timeout(BOUND):
        while True:
            found = condition()
            if found := await found if hasattr(found, "__await__") else found:
                return found
            await asyncio.sleep(0.05)


async def prove(engine: str, program: Path, root: Path) -> dict[str, Any]:
    settle(root, engine, program)
    package = importlib.import_module(f"optio_{engine}")
    config = next(value for name, value in vars(package).items() if name.endswith("TaskConfig"))
    create = getattr(package, f"create_{engine}_task")
    own = ENGINES[engine]
    facts: dict[str, Any] = {}
    optio, deliverables = Optio(), list[Any]()
    await optio.init(mongo_db=AsyncMongoMockClient()["optio"], prefix="t")

    async def on_deliverable(_hook: Any, path: str, text: str) -> None:
        deliverables.append([path, text])

    async def log_in(hook: Any) -> None:
        for name, text in own.files(model.url, hook._host.workdir).items():  # noqa: SLF001 - as engines do
            await hook.copy_file(text.encode(), name)

    async def launch(task: str, **options: Any) -> tuple[Any, list[str]]:
        async with asyncio.timeout(BOUND):
            conversation = await optio.launch_and_await_result(task, session_id=None, **options)
        answers = list[str]()
        conversation.on_message(answers.append)
        return conversation, answers

    async def end(task: str) -> str:
        async def over() -> str | None:
            state = (await optio.get_process(task))["status"]["state"]
            return state if state in {"done", "failed", "cancelled"} else None

        return str(await until(over))

    async with ModelServer().serve() as model:
        for task in "one", "two":
            options = config(
                consumer_instructions="Do what you are asked.",
                fs_isolation=False,
                mode="conversation",
                on_deliverable=on_deliverable,
                before_execute=log_in,
                **own.settings(model.url),
            )
            await optio.adhoc_define(create(task, task, options))

        conversation, answers = await launch("one")
        await conversation.send(scripted(own.shell(REPORT), {"text": "announced"}))
        await until(lambda: deliverables and answers)
        await conversation.send(scripted(own.shell(f"echo 'DONE: all good' {LOG}"), {"text": "."}))
        # codex is told of its deliverable in the turn, if that lasts so long: then it has more to
        # say, and what it was saying begins anew
        outcome, said = await end("one"), "announced" in "".join(answers)
        facts["done"] = [outcome, deliverables, said, left(root)]

        conversation, answers = await launch("two")
        await conversation.send(scripted({"text": "the word is heron"}))
        await until(lambda: answers)
        await conversation.send(scripted({"text": "a long piece of work", "hold": "work"}))
        async with asyncio.timeout(BOUND):
            await model.held("work")
        began = time.monotonic()
        await optio.cancel("two")
        facts["cancelled"] = [await end("two"), left(root)]
        facts["seconds to cancel"] = round(time.monotonic() - began, 1)

        model.requests.clear()
        conversation, answers = await launch("two", resume=True)
        await conversation.send(scripted(own.shell(f"echo 'DONE: resumed' {LOG}"), {"text": "."}))
        facts["resumed"] = [await end("two"), left(root)]
        facts["remembers"] = "heron" in json.dumps(model.requests)
    await optio.shutdown(grace_seconds=2.0)
    return facts


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory(prefix="or", dir="/tmp", ignore_cleanup_errors=True) as place,
        enabled_gridfs_integration(),
    ):
        sys.stdout.write(
            json.dumps(asyncio.run(prove(sys.argv[1], Path(sys.argv[2]), Path(place))))
        )
