"""Where things are, as a person types it: `user@box:port`, and `user@box:PATH`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import click
from click.shell_completion import CompletionItem

from optio_agents.errors import StoreError
from optio_agents.hosts.ssh_config import SSHConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from optio_agents.store_values import StoredSession

_Verb = TypeVar("_Verb", bound="Callable[..., Any]")

# A name of two letters and more, so that C:\… and a:b stay paths; [::1] for an address.
_REMOTE = re.compile(
    r"(?P<host>(?:[^\s/@:]+@)?(?:\[[0-9a-fA-F:]+\]|[^\s/@:\[\]]{2,})(?::\d+(?=:))?):(?P<path>.+)"
)
_HOST = re.compile(r"(?:(?P<user>[^\s/@]+)@)?(?P<host>\[[^\]]+\]|[^\s/@:]+)(?::(?P<port>\d+))?")

POLICIES = ("strict", "accept-new", "insecure")


class SessionId(click.types.StringParamType):
    """The id of a session, or its beginning; completed from the journal."""

    name = "id"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from optio_agents.store import Store

        async def known() -> list[StoredSession]:
            async with Store() as store:
                return [one for one in await store.sessions() if one.id.startswith(incomplete)]

        try:
            return [CompletionItem(one.id, help=one.facts.get("title")) for one in anyio.run(known)]
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
