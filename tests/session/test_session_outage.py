"""A host that is away for a while: nothing that the agent announced or asked is lost by it."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress

import anyio
import pytest

from optio_agents import agents
from optio_agents.errors import TransferFailed
from optio_agents.hosts import make_host
from optio_agents.protocol import get_protocol
from optio_agents.session import run_log_protocol_session
from optio_agents.store.memory import MemoryJournal
from optio_agents.testing.proxy import FaultProxy
from optio_agents.testing.scripted import scripted_agent
from tests.support.hosts.disks import disk_at
from tests.support.hosts.hosts import ssh_config
from tests.support.sessions.sessions import BOUND, FlaggedContext, hand_over, write

SHELL = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
AWAY = 3.0  # seconds: longer than the shortened bounds


@pytest.fixture
def ctx():
    return FlaggedContext()


@pytest.fixture
def short_bounds(monkeypatch):
    """Bounds a fraction of the real ones, for an outage of seconds instead of a minute."""
    monkeypatch.setattr("optio_agents.hosts.files.confined._OPENING", 0.3)
    monkeypatch.setattr("optio_agents.session.messages._SENDING", 2.0)


@asynccontextmanager
async def distant(ssh_login, sshd, tmp_path):
    """A host behind a proxy that can make it go away."""
    async with FaultProxy(sshd.host, sshd.port) as proxy:
        config = ssh_config(ssh_login(port=proxy.port), keepalive=0.3, login_timeout=1)
        host = make_host(config, taskdir=str(tmp_path / "task"))
        with anyio.fail_after(BOUND):
            await host.connect()
            try:
                yield host, proxy
            finally:
                proxy.accept()
                proxy.flow()
                with suppress(Exception):
                    await host.disconnect()


def go_away(proxy, how):
    if how == "cut":
        proxy.refuse()
        proxy.cut()
    elif how == "black hole":
        proxy.black_hole = True
        proxy.cut()
    else:
        proxy.stall()


def come_back(proxy):
    proxy.black_hole = False
    proxy.accept()
    proxy.flow()


@pytest.mark.parametrize("how", ["cut", "black hole", "stall"])
@pytest.mark.usefixtures("short_bounds")
async def test_a_deliverable_announced_as_the_link_goes_is_fetched_when_it_is_back(
    ssh_login, sshd, tmp_path, ctx, how
):
    received = []

    async def on_deliverable(_, path, text):
        received.append((path, text))

    async with distant(ssh_login, sshd, tmp_path) as (host, proxy):

        async def announce(host, _):
            hand_over(host, "first.txt", "1")
            hand_over(host, "second.txt", "2")
            write(host, "DONE")
            await entered.wait()
            await anyio.sleep(AWAY)
            come_back(proxy)

        entered = anyio.Event()
        fetch = host.fetch_file

        async def fetch_file(*args, **options):
            if not entered.is_set():
                entered.set()
                go_away(proxy, how)
            return await fetch(*args, **options)

        host.fetch_file = fetch_file
        result = await run_log_protocol_session(
            host, ctx, body=announce, on_deliverable=on_deliverable
        )
    assert entered.is_set()
    assert result.outcome == "done"
    assert received == [("first.txt", "1"), ("second.txt", "2")]
    assert [delivery.size for delivery in result.deliverables] == [1, 1]
    assert not result.troubles


@pytest.mark.parametrize("how", ["cut", "stall"])
@pytest.mark.usefixtures("short_bounds")
async def test_what_is_said_to_an_agent_whose_host_is_away_is_said_once_and_is_no_trouble(
    ssh_login, sshd, tmp_path, ctx, how
):
    """The reply to a deliverable, to a message of the agent, and a hint."""
    steps = (
        "run echo '- STATUS: nearly' >>optio.log",
        "write a.txt hello",
        "DELIVERABLE: deliverables/a.txt",
        "CALLER_MESSAGE: hello 1",
        *("hear",) * 3,
        "DONE",
    )
    async with distant(ssh_login, sshd, tmp_path) as (host, proxy):
        away = anyio.Event()

        async def answer(hook, *_):
            if not away.is_set():
                away.set()
                go_away(proxy, how)
            return "as you wish"

        async def come_back_later():
            await away.wait()
            await anyio.sleep(AWAY)
            come_back(proxy)

        await host.setup_workdir()
        await host.ask("hosts/channel.sh", host.workdir, "start")
        async with (
            agents.start(host, scripted_agent(*steps), env=SHELL, env_base="empty") as agent,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(come_back_later)
            result = await run_log_protocol_session(
                host,
                ctx,
                agent=agent,
                on_deliverable=answer,
                on_caller_message=answer,
                protocol=get_protocol(caller_messages=True),
            )
            heard = (await host.ask('cat "$1/stdout"', agent.directory)).stdout.decode()
    assert (result.outcome, dict(result.troubles)) == ("done", {})
    assert [delivery.taken for delivery in result.deliverables] == [True]
    assert len(heard.splitlines()) == 3
    for words in "was taken as narration", "a.txt: as you wish", "System: as you wish":
        assert heard.count(words) == 1


async def test_who_takes_an_agent_up_as_the_link_goes_waits_for_it(ssh_login, sshd, tmp_path, ctx):
    async with distant(ssh_login, sshd, tmp_path) as (host, proxy):

        async def come_back_later(gone):
            await gone.wait()
            while "nothing listens" not in host.machine.link.reason:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            come_back(proxy)

        await host.setup_workdir()
        await host.ask("hosts/channel.sh", host.workdir, "start")
        async with (
            agents.start(host, scripted_agent("DONE"), env=SHELL, env_base="empty") as agent,
            anyio.create_task_group() as tasks,
        ):
            gone = proxy.on_bytes(1, source="client", then=lambda: go_away(proxy, "cut"))
            tasks.start_soon(come_back_later, gone)
            assert (await run_log_protocol_session(host, ctx, agent=agent)).outcome == "done"


async def test_while_our_disk_is_full_a_deliverable_waits_and_says_so(
    sessions, ctx, tmp_path, monkeypatch
):
    """Somebody makes room, and all is well: a reply comes when it was fetched, not before."""
    sent = []

    async def sender(text):
        sent.append(text)

    with disk_at(tmp_path / "spool", "1m") as disk:
        monkeypatch.setattr("tempfile.tempdir", str(disk))
        (disk / "filling").write_bytes(bytes(900_000))

        async def body(host, _):
            hand_over(host, "a.bin", bytes(500_000))
            write(host, "DONE")
            await ctx.until(lambda: any("trying again" in each for each in ctx.messages))
            assert not sent
            (disk / "filling").unlink()

        result = await sessions.run(ctx, body=body, agent_sender=sender)
    assert result.outcome == "done"
    assert [delivery.size for delivery in result.deliverables] == [500_000]
    assert sent == ["System: deliverable a.bin: accepted."]
    (told,) = [each for each in ctx.messages if "trying again" in each]
    assert "a.bin cannot be fetched" in told
    assert "No space left" in told


async def test_no_done_stands_on_a_file_that_was_never_fetched(
    sessions, ctx, tmp_path, monkeypatch
):
    """It fails, says what to do, and the next supervisor finds the announcement open."""
    monkeypatch.setattr("optio_agents.session.deliverables._FETCHING", 0.3)
    journal = MemoryJournal()
    received = []

    async def on_file(_, deliverable):
        received.append(deliverable.size)

    async def body(host, _):
        hand_over(host, "a.bin", bytes(500_000))
        write(host, "DONE")

    given = {"journal": journal, "on_deliverable_file": on_file}
    with anyio.fail_after(BOUND), disk_at(tmp_path / "spool", "1m") as disk:
        monkeypatch.setattr("tempfile.tempdir", str(disk))
        (disk / "filling").write_bytes(bytes(900_000))
        async with sessions.host() as host:
            words = r"a\.bin was not fetched.*No space left.*resume session"
            with pytest.raises(TransferFailed, match=words):
                await run_log_protocol_session(host, ctx, body=body, **given)
            assert journal.result.outcome == "failed"
            assert [delivery.reply for delivery in journal.result.deliverables] == [None]
            (disk / "filling").unlink()

            async def nothing(host, _):
                pass

            result = await run_log_protocol_session(host, ctx, body=nothing, resuming=True, **given)
    assert (result.outcome, received) == ("done", [500_000])
