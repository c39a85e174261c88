"""`optio-agents serve`: the page, and its API, for browsers and programs."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from optio_agents.cli.options import page_option, refuse_inside_a_session
from optio_agents.cli.screen.keys import ended_by_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_MISSING = (
    "the page needs more than the command. In a checkout: pip install '.[web]'; from a wheel: "
    "pip install './NAME.whl[web]'"
)


@click.command(epilog="Example:  optio-agents serve --token-file ~/.config/optio-agents/token")
@click.option(
    "--listen",
    default="127.0.0.1:8787",
    show_default=True,
    metavar="ADDRESS:PORT",
    help="Where to listen; port 0 is any free one.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep the token there (0600); without it, each start has a new one.",
)
@page_option("--url", words="How browsers reach it, where that is not its own address.")
def serve(listen: str, token_file: Path | None, url: str | None) -> None:
    """Show all sessions on a page, and let whoever has the link act on them.

    The link that is printed lets in one browser, once; Enter prints another.
    """
    refuse_inside_a_session()
    file = token_file and token_file.expanduser()
    anyio.run(_serve, *_address(listen), file, url)


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise click.BadParameter("say ADDRESS:PORT, as 127.0.0.1:8787", param_hint="--listen")
    return host.strip("[]"), int(port)


async def _serve(host: str, port: int, token_file: Path | None, url: str | None) -> None:
    from optio_agents.store import Store

    try:
        from .server import read_token, serve as serving
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("starlette", "uvicorn", "h11"):
            raise
        raise click.ClickException(_MISSING) from error
    token = read_token(token_file) if token_file else None
    ended = anyio.Event()
    async with (
        Store() as store,
        serving(store, host=host, port=port, token=token, url=url) as page,
    ):
        click.echo(f"the page is at {url or page.address}; this link lets in one browser, once:")
        click.echo(page.new_link())
        if host not in ("127.0.0.1", "::1", "localhost"):
            click.echo(
                "it is not encrypted: `optio-agents help page` tells how to reach it", err=True
            )
        with ended_by_signals(ended.set), _links(page.new_link):
            await ended.wait()


@contextmanager
def _links(new_link: Callable[[], str]) -> Iterator[None]:
    """Print another link whenever the person at this terminal presses Enter."""
    if not sys.stdin.isatty():
        yield
        return
    loop = asyncio.get_running_loop()

    def pressed() -> None:
        if sys.stdin.readline():
            click.echo(new_link())
        else:
            loop.remove_reader(sys.stdin.fileno())

    click.echo("(Enter prints another link; Ctrl-C ends)")
    loop.add_reader(sys.stdin.fileno(), pressed)
    try:
        yield
    finally:
        with suppress(ValueError):
            loop.remove_reader(sys.stdin.fileno())
