"""`ls`, `show`, `logs`, `prune`: what the journal knows, and what a host does."""

from __future__ import annotations

import posixpath
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import click

from optio_agents.cli import exits
from optio_agents.cli.exits import sentence
from optio_agents.cli.options import SessionId, host_key_option, session_argument, ssh_of
from optio_agents.cli.output import as_json, folded, telling_if_slow
from optio_agents.cli.screen.records import (
    Record,
    of_delivery,
    of_event,
    of_session,
    plain,
    record,
    records_of,
    words,
)
from optio_agents.cli.screen.table import table
from optio_agents.concurrency import task_group
from optio_agents.conversation.contract import gist
from optio_agents.display import visible
from optio_agents.errors import AgentError
from optio_agents.hosts.scripting import script
from optio_agents.protocol.events import StatusEvent
from optio_agents.protocol.features import EVERYTHING
from optio_agents.protocol.parser import parse_log_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from optio_agents.agents import Found
    from optio_agents.hosts.host import Host
    from optio_agents.hosts.ssh.config import SSHConfig
    from optio_agents.store import Store, StoredSession
    from optio_agents.supervision import SessionEvent


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PAGE = 1000
_GIST = 1000  # characters of what was decided


_EVERY = "every host"  # that the journal knows: nobody types this
_ASKING = 30.0  # seconds for one host


@click.command(epilog="Example:  optio-agents ls --running")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    is_flag=False,
    flag_value=_EVERY,
    metavar="[USER@BOX]",
    help="Ask this host what runs there; without a name, all hosts of the journal.",
)
@host_key_option
@click.option("--running", is_flag=True, help="Only those that are not over.")
@click.option("--waiting", is_flag=True, help="Only those that wait for a person.")
@click.option("--json", "as_lines", is_flag=True, help='One session per line, `"v": 1`.')
def ls(hosts: tuple[str, ...], host_key: str, running: bool, waiting: bool, as_lines: bool) -> int:
    """List the sessions of the journal, or those found on hosts, whose journal may be lost."""
    code = exits.DONE
    if hosts:
        named = {one: ssh_of(one, policy=host_key) for one in hosts if one != _EVERY}
        every, code = anyio.run(_ask_hosts, named, _EVERY in hosts)
    else:
        every = anyio.run(_known)
    rows = [
        row for row in every if not (running and row["over"]) and not (waiting and not row["waits"])
    ]
    for line in map(as_json, rows) if as_lines else table(rows) if rows else ():
        click.echo(line)
    if not rows and not as_lines and (every or not code):  # of who did not answer nobody knows
        none = "no sessions there" if hosts else "no sessions; `optio-agents demo` makes one"
        click.echo(f"none of {len(every)} sessions" if every else none)
    return code


async def _known() -> list[Record]:
    from optio_agents.store import Store

    async with Store() as store:
        last = await store.last_words()
        found = [of_session(one, last.get(one.id)) for one in await store.sessions()]
        if await store.has_turns():
            from .turns import listed_turns

            found = sorted([*found, *await listed_turns()], key=lambda row: row["at"])
        return found


async def _ask_hosts(named: Mapping[str, SSHConfig], every: bool) -> tuple[list[Record], int]:
    """What is on these hosts, all asked at once, and the exit code: one that fails is said."""
    from optio_agents.hosts.host import Host, make_host
    from optio_agents.store import Store
    from optio_agents.supervision.sessions import TASKS, host_of

    async with Store() as store:
        last, sessions = await store.last_words(), await store.sessions()
    known = {
        (one.host, one.taskdir): (of_session(one, last.get(one.id)), _log_of(one))
        for one in sessions
    }
    hosts = {ssh.name: make_host(ssh, taskdir=TASKS) for ssh in named.values()}
    for one in sessions if every else ():
        if one.host not in hosts:
            hosts[one.host] = Host(host_of(one).machine, TASKS)
    found, codes = dict[str, list[Record]](), [exits.DONE]

    async def ask(name: str, host: Host) -> None:
        try:
            with anyio.fail_after(_ASKING):
                found[name] = await _found_on(host, known)
        except Exception as error:  # of a host that says what it likes, too: the others are shown
            words = sentence(error)
            if isinstance(error, TimeoutError):
                words = f"{name} did not answer within {_ASKING:g} s"
            click.echo(f"optio-agents: {words}", err=True)
            codes.append(exits.exit_code(error))

    many = "its host" if len(hosts) == 1 else f"{len(hosts)} hosts"
    with telling_if_slow(f"waiting for {many} …"):
        async with task_group() as tasks:
            for name, host in hosts.items():
                tasks.start_soon(ask, name, host)
    rows = [row for each in found.values() for row in each]
    return sorted(rows, key=lambda row: float(row["at"])), max(codes)


async def _found_on(
    host: Host, known: Mapping[tuple[str, str], tuple[Record, str]]
) -> list[Record]:
    from optio_agents.agents import find_sessions
    from optio_agents.supervision.sessions import TASKS

    async with host:
        rows = [_found(one, host, known) for one in await find_sessions(host, TASKS)]
        alone = [row for row in rows if "log" in row and not row["over"]]
        answer = await host.ask(script("cli/last-words"), *(row["log"] for row in alone))
    for row, text in zip(alone, answer.stdout.split(b"\0")[1:], strict=False):
        for line in text.decode(errors="replace").splitlines():
            event = parse_log_line(line, features=EVERYTHING)
            if isinstance(event, StatusEvent) and event.percent is not None:
                row["percent"] = event.percent
            row["last"] = words(record(**of_event(event)))
    return rows


def _log_of(session: StoredSession) -> str:
    facts = session.facts
    directory = facts.get("logdir") or facts.get("cwd") or f"{session.taskdir}/workdir"
    return f"{directory}/optio.log"


def _found(one: Found, host: Host, known: Mapping[tuple[str, str], tuple[Record, str]]) -> Record:
    """It as its host has it; *known* are those of our journal, which knows more of them."""
    from optio_agents.supervision.sessions import stored_of

    taskdir = posixpath.dirname(one.directory)
    over = one.state in ("exited", "lost", "rebooted", "never-started")
    if (host.machine.name, taskdir) in known:
        ours, log = known[host.machine.name, taskdir]
        agrees = over == ours["over"]
        shown = ours["state"] if agrees else f"{one.state} there; here {ours['state']}"
        return {**ours, "state": one.state, "over": over, "shown": shown, "log": log}
    meta = None
    with suppress(AgentError):  # it may have written that itself
        meta = stored_of(host, one.meta.get("meta", {}))
    return record(
        "session",
        session=meta.id if meta else one.session or posixpath.basename(taskdir),
        at=meta.created_at if meta else 0.0,
        host=host.machine.name,
        taskdir=taskdir,
        outcome=None,
        state=one.state,
        over=over,
        waits=False,
        text=meta.facts["title"] if meta else None,
        summary=None,
        ended_at=None,
    )


@click.command(epilog="Example:  optio-agents show 3f2a")
@session_argument
@click.option("--json", "as_lines", is_flag=True, help='One record per line, `"v": 1`.')
def show(session: str, as_lines: bool) -> None:
    """Tell what happened in the session ID: its end, deliverables, replies and cost."""
    for row in anyio.run(_story, session):
        click.echo(as_json(row) if as_lines else folded(_in_words(row)))


async def _story(beginning: str) -> list[Record]:
    from optio_agents.store import Store

    async with Store() as store:
        session = await store.session(beginning)
        story = [of_session(session)]
        story += [
            of_delivery(one, session=session.id) for one in await store.deliveries(session.id)
        ]
        story += await _happened(store, session.id)
    return story


async def _happened(store: Store, session: str) -> list[Record]:
    """What was asked and decided, the turns that failed, and what they cost."""
    from optio_agents.supervision import RequestDecided, RequestOpened, TurnEnded

    asked: dict[str, Record] = {}
    turns = list[TurnEnded]()
    async for event in _recorded(store, session):
        match event:
            case RequestOpened(request, at=at):
                about: Record = {"request": request.id, "tool": request.tool_name}
                about |= {"input": request.input, "behavior": None, "by": None}
                asked[request.id] = record("permission", session=session, at=at, **about)
            case RequestDecided(name, behavior, by, at=at) if name in asked:
                asked[name] |= {"behavior": behavior, "by": by, "at": at}
            case TurnEnded() as turn:
                turns.append(turn)
    found = list(asked.values())
    found += [of for turn in turns if not turn.turn.ok for of in records_of(turn, session)]
    if turns:
        known = [one.turn.cost for one in turns if one.turn.cost is not None]
        total = (turns[-1].turn.raw or {}).get("total_cost_usd")  # claude's, past runs with it
        cost = total if isinstance(total, int | float) else sum(known) if known else None
        found.append(record("cost", session=session, at=turns[-1].at, turns=len(turns), usd=cost))
    return found


async def _recorded(store: Store, session: str) -> AsyncIterator[SessionEvent]:
    from optio_agents.supervision.events import event_of

    after = 0
    while rows := await store.events(session, after=after, most=_PAGE):
        for row in rows:
            yield event_of(row)
        after = rows[-1].number


def _in_words(row: Record) -> str:
    match row:
        case {"kind": "session"}:
            ended = (
                f"ended {_day(row['ended_at'])}" if row["over"] and row["ended_at"] else "not ended"
            )
            end = ", verified" if row["verified"] else ""
            end += f": {row['summary'] or 'nothing said'}" if row["over"] else ""
            lines = [
                f"{visible(row['session'])}  {visible(str(row['text'] or ''))}",
                f"  {visible(str(row['state']) + end)}",
                f"  on {visible(row['host'])}, in {visible(row['cwd'] or row['taskdir'])}",
                *([f"  on the branch {visible(row['branch'])}"] if row["branch"] else ()),
                f"  began {_day(row['at'])}, {ended}",
            ]
            return "\n".join(lines)
        case {"kind": "cost", "turns": turns, "usd": usd}:
            return f"  {turns} turn{'s' if turns != 1 else ''}" + (
                f", ${usd:.4f}" if usd is not None else ""
            )
        case {"kind": "permission", "behavior": str(behavior), "by": by, "input": asked}:
            about = visible(f"{row['tool']} `{gist(asked)}`", limit=_GIST)
            return f"  {behavior} by {visible(str(by))}: {about}"
        case {"kind": "permission"}:
            return f"  open: {words(row)}"
        case {"kind": "turn"}:
            return f"  a turn ended: {words(row)}"
        case {"kind": "delivery", "saved": str(saved)}:
            return f"  {words(row)}\n    kept as {visible(saved)}"
        case _:
            return f"  {words(row)}"


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


@click.command(epilog="Example:  optio-agents logs -f 3f2a")
@session_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the session ends.")
@click.option("--json", "as_lines", is_flag=True, help='One record per line, `"v": 1`.')
def logs(session: str, follow: bool, as_lines: bool) -> None:
    """Print all that happened in the session ID, in order, as the journal has it."""
    anyio.run(_logs, session, follow, as_lines)


async def _logs(beginning: str, follow: bool, as_lines: bool) -> None:
    from optio_agents.store import Store
    from optio_agents.supervision import find_session

    async with Store() as store:
        session, after = (await store.session(beginning)).id, 0
        async for event in _recorded(store, session):
            _show_line(event, session, as_lines)
            after = event.number or after
        if follow:
            async with find_session(session, store=store) as live:
                async for event in live.events(after):
                    _show_line(event, session, as_lines)


def _show_line(event: SessionEvent, session: str, as_lines: bool) -> None:
    for row in records_of(event, session):
        click.echo(as_json(row) if as_lines else plain(row))


@click.command(epilog="Example:  optio-agents prune --older-than 30d")
@click.argument("sessions", nargs=-1, metavar="[ID]…", type=SessionId())
@click.option("--older-than", default="30d", show_default=True, metavar="AGE", help="30d, 12h, …")
@click.option("--files", is_flag=True, help="Only what is on hosts: the journal keeps the history.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(sessions: tuple[str, ...], older_than: str, files: bool, yes: bool) -> None:
    """Remove the sessions ID, or those that ended so long ago, here and on their hosts.

    Never one that is not over: `optio-agents stop ID` ends it first.
    """
    found = re.fullmatch(r"(\d+)([smhdw])", older_than)
    if not found:
        raise click.BadParameter("say a number and one of s, m, h, d, w: 30d", param_hint="AGE")
    if not yes:
        which = ", ".join(sessions) or f"what ended more than {older_than} ago"
        rest = "its files on hosts" if files else "files on hosts too"
        click.confirm(visible(f"Remove {which}, {rest}?"), abort=True)
    for line in anyio.run(_prune, sessions, int(found[1]) * _UNITS[found[2]], files):
        click.echo(line)


async def _prune(beginnings: Sequence[str], seconds: float, files: bool) -> Iterable[str]:
    from optio_agents.store import Store
    from optio_agents.supervision.pruning import prune as prune_sessions

    async with Store() as store:
        only = [(await store.session(beginning)).id for beginning in beginnings]
        gone = await prune_sessions(store, seconds, only=only or None, keep_history=files)
    lines = []
    for one in gone:
        words = f"kept: {one.trouble}" if one.trouble else "removed"
        if one.branch:
            words += f"; its commits are on the branch {one.branch}"
        lines.append(visible(f"{one.session.id} {words}", limit=1000))
    return lines or ["nothing to remove"]
