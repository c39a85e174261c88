"""Deliverables: fetched as they are, answered once each, in order, whatever is announced."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import anyio
import pytest

from optio_agents.errors import (
    AgentExited,
    AgentReportedError,
    FileRefused,
    HostLost,
    TransferFailed,
)
from optio_agents.hosts.host import LocalHost
from optio_agents.session import deliverables as module, run_log_protocol_session
from optio_agents.store.memory import MemoryJournal
from tests.support.sessions.sessions import hand_over, says, write
from tests.support.timeouts import BOUND


@pytest.fixture
def sent():
    return []


@pytest.fixture
def agent_sender(sent):
    async def sender(text):
        sent.append(text)

    return sender


async def taken(hook, path, text):
    return None


def announcing(*paths):
    async def body(host, _):
        await host.run_command(
            "mkdir deliverables/folder; mkfifo deliverables/fifo; echo secret >outside.txt;"
            "ln -s ../outside.txt deliverables/link; ln -s /etc/passwd deliverables/passwd;"
            "printf '\\377\\376\\000' >deliverables/binary; echo good >deliverables/good.txt;"
            "ln outside.txt deliverables/hard;"
            "printf '%0999d' 1 >deliverables/big.txt; echo x >deliverables/closed"
        )
        write(host, *(f"DELIVERABLE: {path}" for path in paths), "DONE")

    return body


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("deliverables/none.txt", "no such file"),
        ("deliverables/folder", "directory"),
        ("deliverables/fifo", "not a regular file"),
        ("deliverables/link", "not in deliverables/"),
        ("deliverables/passwd", "not in deliverables/"),
        ("/etc/passwd", "not in deliverables/"),
        ("deliverables/../outside.txt", "not in deliverables/"),
        ("outside.txt", "not in deliverables/"),
        ("deliverables/hard", "Copy it, and announce the copy"),
        ("deliverables/big.txt", "too large"),
        ("deliverables/binary", "not text"),
        ("deliverables/good.txt", "accepted"),
        ("./deliverables/./good.txt", "accepted"),
    ],
)
async def test_whatever_is_announced_is_answered(sessions, ctx, sent, agent_sender, path, words):
    result = await sessions.run(
        ctx,
        body=announcing(path),
        on_deliverable=taken,
        agent_sender=agent_sender,
        max_deliverable_bytes=998,
    )
    assert result.outcome == "done"
    assert len(sent) == 1
    assert sent[0].startswith("System: deliverable ")
    assert words in sent[0]
    (delivery,) = result.deliverables
    assert delivery.taken is True
    assert (delivery.size is not None) == (words in ("accepted", "not text"))


async def test_a_work_directory_that_becomes_a_link_hands_over_nothing(sessions, ctx, tmp_path):
    """Nor does a log that leads elsewhere say anything."""
    foreign, handed = tmp_path / "foreign", []
    (foreign / "deliverables").mkdir(parents=True)
    (foreign / "deliverables" / "key").write_text("secret")
    (foreign / "optio.log").write_text("DELIVERABLE: deliverables/key\nDONE\n")

    async def on_deliverable(_, path, text):
        handed.append(text)

    async def body(host, _):
        await host.run_command(f"mv ../workdir ../moved && ln -s {foreign} ../workdir")
        await anyio.sleep_forever()

    with pytest.raises(FileRefused, match="leads out of"):
        await sessions.run(ctx, body=body, on_deliverable=on_deliverable)
    assert handed == []


async def test_a_file_that_is_announced_just_before_is_refused(sent, ctx, agent_sender, tmp_path):
    foreign, handed = tmp_path / "foreign", []
    (foreign / "deliverables").mkdir(parents=True)
    (foreign / "deliverables" / "key").write_text("secret")

    class Racing(LocalHost):
        async def fetch_file(self, path, destination, **options):
            await self.run_command(f"mv ../workdir ../moved; ln -s {foreign} ../workdir")
            return await super().fetch_file(path, destination, **options)

    async def on_deliverable(_, path, text):
        handed.append(text)

    with anyio.fail_after(BOUND), suppress(FileRefused):  # the log may be looked at by then
        async with Racing(str(tmp_path / "task")) as host:
            given = {"on_deliverable": on_deliverable, "agent_sender": agent_sender}
            said = says("DELIVERABLE: deliverables/key", "DONE")
            await run_log_protocol_session(host, ctx, body=said, **given)
    assert handed == []
    assert not any("accepted" in one for one in sent)


async def test_an_absolute_path_is_as_good_as_a_relative_one(sessions, ctx):
    paths = []

    async def on_deliverable(_, path, text):
        paths.append((path, text))

    async def body(host, _):
        hand_over(host, "sub/a b.txt", "x", announce=False)
        write(host, f"DELIVERABLE: {host.workdir}/deliverables/sub/a b.txt", "DONE")

    await sessions.run(ctx, body=body, on_deliverable=on_deliverable)
    assert paths == [("sub/a b.txt", "x")]


async def test_an_agent_that_names_the_real_path_is_understood(sessions, ctx, tmp_path):
    paths = []

    async def on_deliverable(_, path, text):
        paths.append(path)

    async def body(host, _):
        hand_over(host, "a.txt", "x", announce=False)
        write(host, f"DELIVERABLE: {tmp_path}/real/task1/workdir/deliverables/a.txt", "DONE")

    (tmp_path / "real").mkdir()
    (tmp_path / "way").symlink_to("real")
    sessions.directory = tmp_path / "way"
    await sessions.run(ctx, body=body, on_deliverable=on_deliverable)
    assert paths == ["a.txt"]


async def test_without_anybody_to_show_them_they_are_fetched_and_verified(sessions, ctx):
    async def body(host, _):
        hand_over(host, "a.bin", b"\xff\x00")
        write(host, "DONE")

    result = await sessions.run(ctx, body=body)
    (delivery,) = result.deliverables
    assert delivery.sha256 == hashlib.sha256(b"\xff\x00").hexdigest()
    assert delivery.size == 2
    assert delivery.reply == "deliverable a.bin: accepted."
    assert (result.replies, delivery.taken) == ("none", None)


async def test_binary_files_are_welcome_where_files_are(sessions, ctx):
    seen = []

    async def on_file(_, deliverable):
        seen.append((deliverable.path, deliverable.read_bytes(), deliverable.sha256))
        assert deliverable.local_path.exists()
        kept.append(deliverable.local_path)

    async def body(host, _):
        hand_over(host, "a.bin", b"\xff\x00")
        hand_over(host, "b.txt", "text")
        write(host, "DONE")

    texts, kept = [], []

    async def on_deliverable(_, path, text):
        texts.append(text)

    await sessions.run(ctx, body=body, on_deliverable_file=on_file, on_deliverable=on_deliverable)
    assert [path for path, *_ in seen] == ["a.bin", "b.txt"]
    assert texts == ["text"]
    assert not any(path.exists() for path in kept)


async def test_the_same_path_again_is_a_new_version(sessions, ctx):
    texts = []

    async def on_deliverable(_, path, text):
        texts.append(text)
        return "more, please" if len(texts) == 1 else None

    async def agent_sender(text):
        asked.set()

    asked = anyio.Event()

    async def body(host, _):
        hand_over(host, "a.txt", "first")
        await asked.wait()
        hand_over(host, "a.txt", "second")
        write(host, "DONE")

    result = await sessions.run(
        ctx, body=body, on_deliverable=on_deliverable, agent_sender=agent_sender
    )
    assert texts == ["first", "second"]
    assert [delivery.reply for delivery in result.deliverables] == [
        "deliverable a.txt: more, please",
        "deliverable a.txt: accepted.",
    ]


async def test_callbacks_run_one_at_a_time_in_the_order_announced(
    sessions, ctx, sent, agent_sender
):
    running, order = [], []

    async def on_deliverable(_, path, text):
        assert not running
        running.append(path)
        await anyio.sleep(0.02)
        running.clear()
        order.append(path)

    async def body(host, _):
        for n in range(12):
            hand_over(host, f"{n}.bin", "x" * (100_000 if n % 3 else 1))
        write(host, "DONE")

    await sessions.run(ctx, body=body, on_deliverable=on_deliverable, agent_sender=agent_sender)
    assert order == [f"{n}.bin" for n in range(12)]
    assert [text.split()[2].rstrip(":") for text in sent] == order


async def test_a_callback_that_raises_is_trouble_on_our_side(sessions, ctx, sent, agent_sender):
    async def on_deliverable(_, path, text):
        if path == "a.txt":
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "its own")

    async def body(host, _):
        hand_over(host, "a.txt")
        hand_over(host, "b.txt")
        write(host, "DONE")

    result = await sessions.run(
        ctx, body=body, on_deliverable=on_deliverable, agent_sender=agent_sender
    )
    assert "trouble on our side" in sent[0]
    assert "again later" in sent[0]
    assert "b.txt: accepted" in sent[1]
    assert result.troubles == {"on_deliverable": 1}


async def test_a_callback_that_never_returns_is_trouble_on_our_side(
    sessions, ctx, sent, agent_sender
):
    async def on_deliverable(_, path, text):
        await anyio.sleep_forever()

    async def body(host, _):
        hand_over(host, "a.txt")
        write(host, "DONE")

    result = await sessions.run(
        ctx,
        body=body,
        on_deliverable=on_deliverable,
        agent_sender=agent_sender,
        callback_timeout=0.1,
    )
    assert result.outcome == "done"
    assert "trouble on our side" in sent[0]


async def test_a_sender_that_fails_is_listed_and_ends_nothing(sessions, ctx):
    async def agent_sender(text):
        raise ConnectionError("gone")

    async def body(host, _):
        hand_over(host, "a.txt")
        write(host, "DONE")

    result = await sessions.run(ctx, body=body, agent_sender=agent_sender)
    assert [delivery.path for delivery in result.untaken] == ["a.txt"]
    assert result.troubles["agent_sender"] == 1


async def test_error_still_answers_what_was_announced_before_it(sessions, ctx, sent, agent_sender):
    async def body(host, _):
        hand_over(host, "before.txt")
        hand_over(host, "after.txt", announce=False)
        write(host, "ERROR: no", "DELIVERABLE: deliverables/after.txt")
        await anyio.sleep_forever()

    finished = []

    async def on_deliverable(_, path, text):
        await anyio.sleep(0.3)  # the error must not end it half-way
        finished.append(path)

    with pytest.raises(AgentReportedError) as failure:
        await sessions.run(ctx, body=body, on_deliverable=on_deliverable, agent_sender=agent_sender)
    assert finished == ["before.txt"]
    assert sent == ["System: deliverable before.txt: accepted."]
    assert [delivery.path for delivery in failure.value.result.deliverables] == ["before.txt"]


async def test_what_an_agent_announced_before_it_broke_down_is_handed_over_all_the_same(
    sessions, ctx, sent, agent_sender
):
    finished = []

    async def body(host, _):
        hand_over(host, "a.txt")
        hand_over(host, "b.txt")

    async def on_deliverable(_, path, text):
        await anyio.sleep(0.1)
        finished.append(path)

    with pytest.raises(AgentExited) as failure:
        await sessions.run(ctx, body=body, on_deliverable=on_deliverable, agent_sender=agent_sender)
    assert finished == ["a.txt", "b.txt"]
    assert [delivery.taken for delivery in failure.value.result.deliverables] == [True, True]


@pytest.mark.parametrize("trouble", [TransferFailed("full"), HostLost("cut"), TimeoutError()])
async def test_a_journaled_agent_gets_its_replies_however_long_its_host_takes_none(
    sessions, ctx, trouble
):
    troubles, said = [trouble, trouble], []

    async def sender(name, text):
        if troubles:
            raise troubles.pop()
        said.append(text)

    async def body(host, _):
        hand_over(host, "a.txt")
        hand_over(host, "b.txt")
        write(host, "DONE")

    result = await sessions.run(ctx, body=body, reply_sender=sender)
    assert said == [f"System: deliverable {name}: accepted." for name in ("a.txt", "b.txt")]
    assert [delivery.taken for delivery in result.deliverables] == [True, True]
    assert result.troubles["agent_sender"] == 2


async def test_too_many_open_announcements_are_refused_one_by_one(
    sessions, ctx, sent, agent_sender, monkeypatch
):
    monkeypatch.setattr(module, "DELIVERABLE_QUEUE_BOUND", 3)

    async def body(host, _):
        hand_over(host, "a.txt", announce=False)
        write(host, *["DELIVERABLE: deliverables/a.txt"] * 5, "DONE")

    await sessions.run(ctx, body=body, agent_sender=agent_sender)
    assert ["accepted" in text for text in sent] == [True] * 3 + [False] * 2
    assert "still waiting" in sent[3]


# Keeping them


async def test_they_are_kept_with_their_relative_paths(sessions, ctx, tmp_path):
    async def body(host, _):
        hand_over(host, "a.txt", "one")
        hand_over(host, "sub/b.bin", b"\xff")
        write(host, "DONE")

    kept = tmp_path / "kept"
    result = await sessions.run(ctx, body=body, save_deliverables_to=kept)
    assert (kept / "a.txt").read_text() == "one"
    assert (kept / "sub/b.bin").read_bytes() == b"\xff"
    assert [delivery.saved for delivery in result.deliverables] == [
        str(kept / "a.txt"),
        str(kept / "sub/b.bin"),
    ]


async def test_no_link_in_the_directory_is_followed(sessions, ctx, sent, agent_sender, tmp_path):
    async def body(host, _):
        hand_over(host, "sub/a.txt", "mine")
        hand_over(host, "link.txt", "mine")
        write(host, "DONE")

    kept, elsewhere = tmp_path / "kept", tmp_path / "elsewhere"
    kept.mkdir()
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("keep me")
    (kept / "sub").symlink_to(elsewhere)
    (kept / "link.txt").symlink_to(elsewhere / "precious")
    result = await sessions.run(
        ctx, body=body, save_deliverables_to=kept, agent_sender=agent_sender
    )
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]
    assert (elsewhere / "precious").read_text() == "keep me"
    assert "trouble on our side" in sent[0]
    assert (kept / "link.txt").read_text() == "mine"  # the link was replaced, not followed
    assert not (kept / "link.txt").is_symlink()
    assert result.outcome == "done"


# With a journal


async def test_a_reply_that_was_decided_is_said_again_and_not_decided_again(sessions, ctx):
    """The supervisor ends between the decision and the mark."""
    journal, said, asked = MemoryJournal(), [], []

    async def on_deliverable(_, path, text):
        asked.append(path)

    async def dying_sender(name, text):
        said.append((name, text))
        ctx.going = False
        await anyio.sleep_forever()

    async def sender(name, text):
        said.append((name, text))

    async def first(host, _):
        hand_over(host, "a.txt")
        await anyio.sleep_forever()

    async def second(host, _):
        write(host, "DONE")

    given = {"journal": journal, "on_deliverable": on_deliverable}
    with anyio.fail_after(BOUND):
        async with sessions.host() as host:
            await run_log_protocol_session(
                host, ctx, body=first, reply_sender=dying_sender, **given
            )
            ctx.going = True
            result = await run_log_protocol_session(
                host, ctx, body=second, reply_sender=sender, resuming=True, **given
            )
    assert asked == ["a.txt"]
    assert said[0] == said[1]
    assert said[0][0].startswith("reply-")
    assert result.replies == "agent"
    assert [delivery.taken for delivery in result.deliverables] == [True]
