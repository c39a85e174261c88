"""What verbs share: how a person names hosts, sessions and variables, and asks to supervise."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import anyio
import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from optio_agents.errors import AgentError, StoreError
from optio_agents.hosts.environment import looks_like_credential
from optio_agents.hosts.scripting import is_variable
from optio_agents.hosts.ssh.config import SSHConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from optio_agents.store.records import StoredSession


# Where things are, as a person types it: `user@box:port`, and `user@box:PATH`.


_Verb = TypeVar("_Verb", bound="Callable[..., Any]")

# A name of two letters and more, so that C:\… and a:b stay paths; [::1] for an address.
_REMOTE = re.compile(
    r"(?P<host>(?:[^\s/@:]+@)?(?:\[[0-9a-fA-F:]+\]|[^\s/@:\[\]]{2,})(?::\d+(?=:))?):(?P<path>.+)"
)
_HOST = re.compile(r"(?:(?P<user>[^\s/@]+)@)?(?P<host>\[[^\]]+\]|[^\s/@:]+)(?::(?P<port>\d+))?")

POLICIES = ("strict", "accept-new", "insecure")


class SessionId(click.types.StringParamType):
    """The id of a session, its beginning, or its name; completed from the journal."""

    name = "id"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from optio_agents.store import Store

        async def known() -> list[StoredSession]:
            async with Store() as store:
                return await store.sessions()

        try:
            return [
                CompletionItem(word, help=one.facts.get("title"))
                for one in anyio.run(known)
                for word in (one.facts.get("name"), one.id)
                if word and word.startswith(incomplete)
            ]
        except StoreError:
            return []


session_argument = click.argument("session", metavar="ID", type=SessionId())


def ssh_of(text: str, *, policy: str = "strict") -> SSHConfig:
    """The login that `user@box:port` names. Raises click.BadParameter."""
    found = _HOST.fullmatch(text)
    if not found:
        raise click.BadParameter(f"{text!r} is not a host: say user@box or user@box:port")
    port = int(found["port"]) if found["port"] else None
    try:
        return SSHConfig(
            found["host"].strip("[]"),
            user=found["user"],
            port=port,
            host_key_policy=policy,  # type: ignore[arg-type]  # click has checked the choice
        )
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def split_remote(text: str) -> tuple[str | None, str]:
    """`user@box[:port]:PATH` as (host, path); a path on this machine as (None, path)."""
    found = _REMOTE.fullmatch(text)
    return (found["host"], found["path"]) if found else (None, text)


def host_options(verb: _Verb) -> _Verb:
    """Give *verb* what names a host: its arguments `host` and `host_key`."""
    where = click.option("--host", metavar="USER@BOX", help="Where; without it, on this machine.")
    return where(host_key_option(verb))


def host_key_option(verb: _Verb) -> _Verb:
    """Give *verb* its argument `host_key`."""
    return click.option(
        "--host-key",
        type=click.Choice(POLICIES),
        default="strict",
        show_default=True,
        envvar="OPTIO_AGENTS_HOST_KEY",
        help="What to do about a host key that is not known yet.",
    )(verb)


# The variables that an agent is given by name: nothing of ours crosses unnamed.


def named_environment(
    names: Iterable[str], file: Path | None, ours: Mapping[str, str]
) -> dict[str, str]:
    """What `--env` and `--env-file` name; a flag wins. Raises click.BadParameter."""
    given = dict(_lines(file)) if file else {}
    for word in names:
        name, equals, value = word.partition("=")
        _check(name, "--env")
        if equals and looks_like_credential(name, value):
            raise click.BadParameter(
                f"{name} looks like a credential, and everybody here can read a command line: "
                f"say --env {name} to hand over our own, or use --env-file"
            )
        if not equals and name not in ours:
            raise click.BadParameter(f"--env {name}: there is no such variable here")
        given[name] = value if equals else ours[name]
    return given


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            name, equals, value = text.removeprefix("export ").partition("=")
            _check(name, f"{file}:{number}")
            if not equals:
                raise click.BadParameter(f"{file}:{number}: say NAME=VALUE")
            yield name, value


def _check(name: str, where: str) -> None:
    if not is_variable(name):
        raise click.BadParameter(f"{where}: {name!r} cannot be the name of a variable")


# What `run`, `demo` and `attach` ask of the sessions that they show.


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOptions:
    """How this terminal supervises; the same for all its sessions."""

    save: Path | None = None
    as_lines: bool = False
    notify: str | None = None
    page: str | None = None  # where `serve` is reached, for links to what a person is told of
    stop_on_exit: bool = False
    stall_after: float | None = None
    lost_after: float | None = None
    permission_timeout: float = 900.0
    permission: str = "ask"  # or deny, allow-listed: nobody is asked
    detach: bool = False
    take_over: bool = False


def notify_option(words: str) -> Callable[[_Verb], _Verb]:
    """Give a verb its argument `notify`: a program, or a URL, which stands in no command line."""
    return click.option(
        "--notify",
        metavar="CMD | TARGET",
        envvar="OPTIO_AGENTS_NOTIFY",
        callback=_notify,
        help=words,
    )


def _notify(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    from optio_agents.cli.screen.notify import is_url

    if value is None:
        return None
    typed = ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE
    if typed and is_url(value):
        raise click.BadParameter(
            "a URL like this is a secret, and everybody here can read a command line: put it into "
            "config.toml, in [targets], or into OPTIO_AGENTS_NOTIFY"
        )
    targets = (ctx.default_map or {}).get("targets") or {}
    found: str = targets.get(value, value)
    return found


def page_option(*names: str, words: str) -> Callable[[_Verb], _Verb]:
    """Give a verb its argument for the URL under which browsers reach the page."""
    return click.option(
        *names, metavar="URL", envvar="OPTIO_AGENTS_PAGE", callback=_page, help=words
    )


def _page(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    where = urlsplit(value or "http://none")
    if where.scheme not in ("http", "https") or not where.netloc:
        raise click.BadParameter("say it with http:// or https://")
    return value


def supervision_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give *verb* the flags whose values make a `CommandOptions`, but those of `run` alone."""
    options = (
        click.option(
            "--save",
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIR",
            help="Keep deliverables in DIR.",
        ),
        click.option("--json", "as_lines", is_flag=True, help='One record per line, `"v": 1`.'),
        notify_option(
            "Run CMD when you are needed, and at the end, JSON on stdin; or notify a target of "
            "your config.toml."
        ),
        page_option("--page", words="Link to `serve` there from what --notify tells."),
        click.option(
            "--permission-timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=900.0,
            show_default=True,
            metavar="S",
            envvar="OPTIO_AGENTS_PERMISSION_TIMEOUT",
            help="Deny what nobody answered for S seconds.",
        ),
        click.option("--stop-on-exit", is_flag=True, help="Leaving stops the agent."),
        click.option(
            "--stall-after",
            type=click.FloatRange(min=0, min_open=True),
            metavar="S",
            envvar="OPTIO_AGENTS_STALL_AFTER",
            help="End it after S seconds without a sign of life.",
        ),
        click.option(
            "--lost-after",
            type=click.FloatRange(min=0, min_open=True),
            metavar="S",
            envvar="OPTIO_AGENTS_LOST_AFTER",
            help="Give up a host that stayed away for S seconds; else it is waited for.",
        ),
    )
    for option in reversed(options):
        verb = option(verb)
    return verb


# Whether we run inside a session: an agent must not approve its own requests, nor end itself.


_TAG = b"OPTIO_SESSION="


def refuse_inside_a_session() -> None:
    """Raises AgentError where this process, or one that it descends from, belongs to an agent."""
    if os.environ.get("OPTIO_SESSION") or any(map(_tagged, _ancestors(os.getpid()))):
        raise AgentError(
            "this verb acts on agents and does not run inside one: use a terminal of your own"
        )


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:  # no /proc here, or it has ended
            return
        pid = int(stat.rpartition(b")")[2].split()[1])  # a name may hold spaces and parentheses
        yield pid


def _tagged(pid: int) -> bool:
    # What it was started with: an agent can empty its own environment, not its launcher's.
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return any(word.startswith(_TAG) for word in environment.split(b"\0"))
