"""At a usage limit of the agent's account: wait and go on, or end, by the real claude."""

import time
from typing import Any

import anyio
import pytest

from optio_agents.cli.screen.table import fullest
from optio_agents.errors import SessionLimitReached
from optio_agents.supervision import Claude, StateChanged, events as happened
from optio_agents.supervision.kinds import conversing
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.model_server import ModelServer
from tests.support.claude.claude_cli import OFF, executable, surroundings
from tests.support.sessions.supervising import Office, Watching
from tests.support.timeouts import BOUND

ENDS = [
    {"tool": "Bash", "input": {"command": "echo 'DONE: all' >> optio.log"}},
    {"text": "That is all."},
]


def limit(seconds: float) -> dict[str, Any]:
    """The account may use no more until then; without *seconds* nobody says until when."""
    reset = str(int(time.time() + seconds))
    name = "anthropic-ratelimit-unified"
    headers = {
        f"{name}-status": "rejected",
        f"{name}-reset": reset,
        f"{name}-representative-claim": "five_hour",
        f"{name}-5h-status": "rejected",
        f"{name}-5h-reset": reset,
        f"{name}-5h-utilization": "1.0",
    }
    return {"error": 429, "headers": headers if seconds else {}, "retry_after": 0}


def claude(office: Office, api: ModelServer) -> Claude:
    account = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "dummy-token"}
    return Claude(
        "Do it. @@plan@@",
        allowed_tools=("Bash",),
        options=OFF,
        executable=executable(),
        env=surroundings(office.directory, api, **account),
        env_base="empty",
    )


def limited(event: object) -> bool:
    return isinstance(event, StateChanged) and event.state.phase == "limited"


async def test_it_waits_and_goes_on_when_the_limit_is_over(office: Office) -> None:
    watching = Watching()
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store, office.host() as host:
            first: list[dict[str, Any]] = [
                {"tool": "Bash", "input": {"command": "true"}, "hold": "asked"},
                {},
            ]
            api.scripts["plan"] = first
            async with supervise(
                host, claude(office, api), store=store, observer=watching
            ) as session:
                await api.held("asked")
                first[1] = limit(6)  # from now on, however long its start took
                api.release("asked")
                await watching.until(lambda: any(map(limited, watching.seen)))
                api.scripts["plan"] = [first[0], *ENDS]
                link: Any = (await session._reach())[1]  # noqa: SLF001
                while not link.busy():  # noqa: ASYNC110 - so that waiting is no stall
                    await anyio.sleep(0.01)
                result = await session.result()
            (window,) = (await store.last_words())[result.session].usage
    assert (window["label"], window["pct"]) == ("five_hour", 100.0)
    assert fullest([window]) == "", "it has begun again"
    assert fullest([{**window, "resets_at": None}]) == "five_hour 100%"
    state = [one.state for one in watching.of(StateChanged) if limited(one)][-1]
    assert str(state).startswith("usage limit until ")
    assert state.until is not None
    assert (result.outcome, result.summary) == ("done", "all")
    ends = [one.at for one in watching.of(happened.TurnEnded)]
    assert ends[0] <= state.until < ends[-1]
    said = [one.text for one in watching.of(happened.Notice)]
    assert said.count("the limit is over: it is told to go on") == 1


async def test_a_limit_of_which_nobody_says_how_long_it_holds_is_tried_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversing, "_PAUSE", 0.5)
    watching = Watching()
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store, office.host() as host:
            api.scripts["plan"] = [limit(0)]
            async with supervise(
                host, claude(office, api), store=store, observer=watching
            ) as session:
                await watching.until(lambda: len(watching.of(happened.TurnEnded)) == 2)
                api.scripts["plan"] = ENDS
                assert (await session.result()).outcome == "done"


async def test_it_ends_there_where_that_is_wanted(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store, office.host() as host:
            api.scripts["plan"] = [limit(3600)]
            with pytest.raises(SessionLimitReached, match="usage limit until "):
                await supervise(host, claude(office, api), store=store, at_limit="stop")
            (stored,) = await store.sessions()
    assert (stored.outcome, stored.over) == ("over limit", True)


def test_what_it_may_do_at_a_limit_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="at_limit cannot be 'go'"):
        supervise(None, at_limit="go")  # type: ignore[arg-type]
