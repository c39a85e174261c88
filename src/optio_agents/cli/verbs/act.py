"""`send`, `set`, `interrupt`, `approve`, `deny`, `answer`, `stop`: act from any terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import anyio
import click

from optio_agents.cli.options import refuse_inside_a_session, session_argument
from optio_agents.cli.output import telling_if_slow
from optio_agents.cli.screen import questions
from optio_agents.cli.screen.keys import discard_typed, operator_name
from optio_agents.conversation.claude.permissions import answer_questions
from optio_agents.display import visible
from optio_agents.errors import AgentError
from optio_agents.supervision import find_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from optio_agents.conversation import PermissionDecision
    from optio_agents.supervision import OpenRequest, Session


# What to answer, once the request was shown; it may ask the person.
Decide: TypeAlias = Callable[["OpenRequest"], "PermissionDecision"]


def _named(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    if name == "":  # an empty variable of a script's, not "the only one"
        raise click.BadParameter("it is empty: name a request, or none for the only one")
    return name


_request = click.argument("request", required=False, callback=_named)
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@asynccontextmanager
async def _found(beginning: str) -> AsyncIterator[Session]:
    from optio_agents.store import Store

    refuse_inside_a_session()
    async with Store() as store, find_session(beginning, store=store) as live:
        yield live


@click.command(epilog="Example:  optio-agents send 3f2a 'Look at the tests first'")
@session_argument
@click.argument("text")
def send(session: str, text: str) -> None:
    """Say TEXT to the agent of the session ID; `-` reads it from standard input."""
    whole = sys.stdin.read() if text == "-" else text

    async def say() -> str:
        async with _found(session) as live:
            with telling_if_slow():
                return await live.send(whole)

    click.echo(f"said, as {anyio.run(say)}")


@click.command("set", epilog="Example:  optio-agents set 3f2a model=opus")
@session_argument
@click.argument("settings", nargs=-1, required=True, metavar="NAME=VALUE…")
def set_controls(session: str, settings: tuple[str, ...]) -> None:
    """Set NAME of the agent of the session ID to VALUE, from its next step on.

    A model or a mode, by the agent's own word; a wrong NAME lists those that this agent has.
    """
    pairs = [one.partition("=") for one in settings]
    if wrong := [name for name, sign, value in pairs if not (name and sign and value)]:
        raise click.UsageError(f"{wrong[0]!r} is not of the form NAME=VALUE")
    anyio.run(_set, session, {name: value for name, _, value in pairs})


async def _set(beginning: str, settings: dict[str, str]) -> None:
    async with _found(beginning) as live:
        for name, value in settings.items():
            with telling_if_slow():
                await live.set_control(name, value)
            click.echo(f"{visible(name)} is to be {visible(value)}")


@click.command(epilog="Example:  optio-agents interrupt 3f2a")
@session_argument
def interrupt(session: str) -> None:
    """End the turn that the agent of the session ID is at; a plain command gets SIGINT."""

    async def end_the_turn() -> None:
        async with _found(session) as live:
            with telling_if_slow():
                await live.interrupt(by=operator_name())

    anyio.run(end_the_turn)
    click.echo("interrupted")


@click.command(epilog="Example:  optio-agents stop 3f2a")
@session_argument
@click.option(
    "--grace",
    type=click.FloatRange(min=0, max=600),
    default=5.0,
    show_default=True,
    help="Seconds between TERM and KILL.",
)
def stop(session: str, grace: float) -> None:
    """End the agent of the session ID, and all processes that it started."""

    async def end_it() -> tuple[str, ...]:
        async with _found(session) as live:
            with telling_if_slow("waiting for it to end …"):
                return (await live.stop(grace=grace, by=operator_name())).survivors

    if survivors := anyio.run(end_it):
        listed = "\n  ".join(visible(one) for one in survivors)
        raise AgentError(f"these processes could not be ended:\n  {listed}")
    click.echo("stopped; nothing of it is left running")


@click.command(epilog="Example:  optio-agents approve 3f2a 71c0")
@session_argument
@_request
@click.option("--always", is_flag=True, help="The like of it, too, until the session ends.")
@_yes
def approve(session: str, request: str | None, always: bool, yes: bool) -> None:
    """Let the agent do what REQUEST asks for; without a name, the one that is open."""

    def decide(asked: OpenRequest) -> PermissionDecision:
        if questions.questions(asked.request):
            raise AgentError("this is a question, not a permission: use `optio-agents answer`")
        decision = questions.allow(asked.request, always=always)
        if request is None and not yes:
            _confirm("Allow this, and what always grants" if always else "Allow")
        return decision

    anyio.run(_decide, session, request, decide)


@click.command(epilog="Example:  optio-agents deny 3f2a --message 'Not on this machine'")
@session_argument
@_request
@click.option("--message", help="What the agent reads.")
@_yes
def deny(session: str, request: str | None, message: str | None, yes: bool) -> None:
    """Do not let the agent do what REQUEST asks for; without a name, the one that is open."""

    def decide(_: OpenRequest) -> PermissionDecision:
        if request is None and not yes:
            _confirm("Deny")
        return questions.deny(message)

    anyio.run(_decide, session, request, decide)


@click.command(epilog="Example:  optio-agents answer 3f2a --choose 2")
@session_argument
@_request
@click.option("--choose", multiple=True, metavar="N|TEXT", help="For each question, in order.")
def answer(session: str, request: str | None, choose: tuple[str, ...]) -> None:
    """Answer what the agent asks its user; without --choose, you are asked."""

    def decide(asked: OpenRequest) -> PermissionDecision:
        open_questions = questions.questions(asked.request)
        if not open_questions:
            raise AgentError("this asks for a permission: use approve or deny")
        given = list(choose) or [_choice(text) for text, _ in open_questions]
        if len(given) != len(open_questions):
            raise click.UsageError(f"there are {len(open_questions)} questions: --choose for each")
        answers = {
            text: _label(word, labels)
            for (text, labels), word in zip(open_questions, given, strict=True)
        }
        return answer_questions(asked.request, answers)

    anyio.run(_decide, session, request, decide)


def _choice(text: str) -> str:
    discard_typed()
    return str(click.prompt(f"{visible(text)} A number, or your own words"))


def _label(word: str, labels: list[str]) -> str:
    return labels[int(word) - 1] if word.isdecimal() and 1 <= int(word) <= len(labels) else word


def _confirm(what: str) -> None:
    discard_typed()  # what was typed before this was on the screen did not mean it
    click.confirm(f"{what}?", abort=True)


async def _decide(session: str, name: str | None, decide: Decide) -> None:
    """Show the request, and say what *decide* makes of it, unless it is another one by then."""
    async with _found(session) as live:
        with telling_if_slow():
            found = await live.read_requests()
        shown = _the_one(found, name).hiding(live.secrets)
        click.echo(f"{questions.heading(shown.request)}:")
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
        click.echo(questions.block(questions.body(shown.request), width))
        decision = decide(shown)
        with telling_if_slow():
            answered = await live.answer(shown, decision, by=operator_name())
    if not answered.won:
        raise AgentError(f"it was answered before, by {visible(answered.by)}")
    why = "; the reason is its next message" if answered.passed_on else ""
    click.echo({"allow": "allowed", "deny": "denied"}[decision.behavior] + why)


def _the_one(found: Sequence[OpenRequest], name: str | None) -> OpenRequest:
    matching = [one for one in found if name is None or one.request.id.startswith(name)]
    matching = [one for one in matching if one.request.id == name] or matching
    if len(matching) == 1:
        return matching[0]
    if not matching:
        raise AgentError(f"no request {name!r} is open" if name else "nothing is asked now")
    names = ", ".join(visible(one.request.id, limit=40) for one in matching)
    raise AgentError(f"{len(matching)} requests are open, name one: {names}")


set = set_controls  # noqa: A001 - the verb is found by its name
