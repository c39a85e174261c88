"""The page: a line of a log until it is read in a browser, many who look on, and long lists."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import anyio
import httpx

from optio_agents.hosts.host import make_host
from optio_agents.store import Store
from optio_agents.supervision import Command, supervise
from optio_agents.testing.scripted import scripted_agent
from tests.bench import Comparison, Figure, Unavailable
from tests.bench.peers import our_python
from tests.support.sessions.supervising import PLAIN
from tests.web.browser import browsing, page_at
from tests.web.crowds import crowd

LATENCY, RENDERED = "ms to the page (p50)", "ms until it is seen"
MEMORY, CPU = "MB of the server", "% of a core"
_SEEN = """(text) => new Promise((done) => {
  const look = () => [...document.querySelectorAll('.entry.status .words')].at(-1)?.textContent;
  const watching = new MutationObserver(() => {
    if (look() === text) { watching.disconnect(); done(Date.now()); }
  });
  watching.observe(document.getElementById('body'), { childList: true, subtree: true });
})"""
_COUNTED = """(count) => new Promise((done) => {
  const look = () => {
    const shown = document.querySelector('.over .count')?.textContent === count;
    if (shown) done(performance.now());
    else requestAnimationFrame(look);
  };
  look();
})"""


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    if shutil.which("chromium") is None or find_spec("playwright") is None:
        raise Unavailable("chromium or playwright is not installed")
    lines, seconds = (5, 1.0) if quick else (100, 15.0)
    pages, live = (20, 4) if quick else (200, 20)
    many, times = (500, 1) if quick else (5000, 3)
    yield [
        Comparison(
            title="a line of a log, until a browser shows it",
            ours=lambda: _latency(lines),
            figures=[Figure(LATENCY, at_most=100)],
        ),
        Comparison(
            title=f"{pages} open pages on {live} live sessions, a line a second in each",
            ours=lambda: _crowded(pages, live, seconds),
            figures=[Figure(MEMORY, at_most=150), Figure(CPU, at_most=20)],
        ),
        Comparison(
            title=f"the overview of {many} sessions",
            ours=lambda: _overview(many, times),
            figures=[Figure(RENDERED, at_most=1000)],
        ),
    ]


@asynccontextmanager
async def _served(place: Path) -> AsyncIterator[tuple[int, str, str]]:
    """`optio-agents serve` of that place: its process, its link, and its token."""
    env = {**PLAIN, "HOME": str(place), "XDG_STATE_HOME": str(place / "state")}
    words = ["serve", "--listen", "127.0.0.1:0", "--token-file", str(place / "token")]
    argv = [str(our_python()), "-m", "optio_agents.cli", *words]
    async with await anyio.open_process(argv, env=env, cwd=place, stderr=None) as process:
        assert process.stdout is not None
        try:
            told = ""
            while told.count("\n") < 2:
                told += (await process.stdout.receive()).decode()
            yield process.pid, told.splitlines()[1], (place / "token").read_text().strip()
        finally:
            process.terminate()


@asynccontextmanager
async def _place() -> AsyncIterator[tuple[Path, Store]]:
    with tempfile.TemporaryDirectory(prefix="optio-bench-page-") as directory:
        place = Path(directory)
        async with Store(place / "state/optio-agents/journal.sqlite3") as store:
            yield place, store


def _command(*steps: str) -> Command:
    return Command(scripted_agent(*steps), env=PLAIN, env_base="empty")


class _At:
    """A page that is served by another process."""

    def __init__(self, link: str) -> None:
        self._link = link

    def new_link(self) -> str:
        return self._link


async def _latency(lines: int) -> Mapping[str, float]:
    async with (
        _place() as (place, store),
        _served(place) as (_, link, _token),
        browsing(place / "browser") as browser,
        page_at(browser, _At(link)) as page,  # type: ignore[arg-type]
        make_host(taskdir=str(place / "task")) as host,
        supervise(host, _command("hear", "DONE"), store=store) as session,
    ):
        await session.read_requests()
        await page.goto(f"{link.partition('#')[0]}#/sessions/{session.id}")
        await page.wait_for_selector(".entry.began")
        written, seen = list[float](), list[float]()

        async def watch(text: str) -> None:
            seen.append(await page.evaluate(_SEEN, text))

        with (place / "task/workdir/optio.log").open("a") as log:
            for number in range(lines):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(watch, f"line {number}")
                    await anyio.sleep(0.05)  # until it watches
                    written.append(time.time() * 1000)
                    log.write(f"STATUS: line {number}\n")
                    log.flush()
        await session.send("go")
        await session.result()
    return {LATENCY: median(b - a for a, b in zip(written, seen, strict=True))}


async def _crowded(pages: int, live: int, seconds: float) -> Mapping[str, float]:
    talks = 'run n=0; while sleep 1; do n=$((n+1)); echo "STATUS: line $n" >>"$OPTIO_LOG"; done'
    async with AsyncExitStack() as stack:
        place, store = await stack.enter_async_context(_place())
        pid, link, token = await stack.enter_async_context(_served(place))
        sessions = []
        for number in range(live):
            taskdir = str(place / f"task-{number}")
            host = await stack.enter_async_context(make_host(taskdir=taskdir))
            running = supervise(host, _command(talks), store=store)
            session = await stack.enter_async_context(running)
            await session.read_requests()
            sessions.append(session.id)
        base = link.partition("/#")[0]
        headers = {"authorization": f"Bearer {token}"}
        limits = httpx.Limits(max_connections=None)
        http = httpx.AsyncClient(base_url=base, headers=headers, timeout=None, limits=limits)
        await stack.enter_async_context(http)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        counted = [0]
        for number in range(pages):
            tasks.start_soon(_read, http, sessions[number % live], counted)
        await anyio.sleep(seconds / 5 + 1)  # until all have come in
        before, used = counted[0], _used(pid)
        await anyio.sleep(seconds)
        cpu = (_used(pid) - used) / seconds * 100
        memory = _memory(pid)
        assert counted[0] - before > pages * seconds / 2, "they are not live"
        tasks.cancel_scope.cancel()
        return {MEMORY: memory, CPU: cpu}
    raise AssertionError


async def _read(http: httpx.AsyncClient, session: str, counted: list[int]) -> None:
    async with http.stream("GET", f"/api/sessions/{session}/events") as answer:
        async for part in answer.aiter_raw():
            counted[0] += part.count(b"\nid: ") + part.startswith(b"id: ")


def _used(pid: int) -> float:
    """Seconds of processor time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (found,) = (line for line in lines if line.startswith("VmRSS:"))
    return int(found.split()[1]) / 1000


async def _overview(many: int, times: int) -> Mapping[str, float]:
    async with _place() as (place, store):
        crowd(store.path, many)
        async with (
            _served(place) as (_, link, _token),
            browsing(place / "browser") as browser,
            page_at(browser, _At(link)) as page,  # type: ignore[arg-type]
        ):
            await page.wait_for_selector(".row")
            took = []
            for _ in range(times):
                await page.reload()
                took.append(await page.evaluate(_COUNTED, str(many)))
    return {RENDERED: median(took)}
