"""The verbs: what a person, or a program, does to a session. Each says what became of it.

Whoever is not sure that a request arrived repeats it with the same `Idempotency-Key`, and gets the
answer of the first: what was asked for is done once. A message is kept on its host under that key,
so for it this holds over a restart of ours as well.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from optio_agents.cli.screen import questions
from optio_agents.conversation.claude.permissions import (
    answer_questions,
    grants,
    questions as questions_whole,
)
from optio_agents.display import visible
from optio_agents.errors import AgentError
from optio_agents.supervision import OpenRequest, find_session

from .guard import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optio_agents.conversation import PermissionDecision
    from optio_agents.supervision import Session

    from .hub import Hub


Receipt: TypeAlias = dict[str, Any]
Work: TypeAlias = Callable[[], Coroutine[Any, Any, Receipt]]

WITHIN = 60.0  # seconds for a host to do what is asked
_WRITING = 2.0  # seconds until a decision that the agent has is written down
_KNOWN = 1000  # requests whose answers are kept
_NAME = 40  # characters of who somebody says they are
_TEXT = 20_000  # characters of a question, a choice, or what is granted


class Once:
    """Does what bears one key once, and gives its answer to all who ask for it."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[str, asyncio.Task[Receipt]]] = OrderedDict()

    async def do(self, key: str, what: str, work: Work) -> Receipt:
        """Await *work*, which goes on when its caller leaves. Raises RequestRefused."""
        if not key:
            return await work()
        known = self._known.get(key)
        if known is None:
            task = asyncio.ensure_future(work())
            known = self._known[key] = what, task
            task.add_done_callback(lambda done: self._done(key, done))
        if known[0] != what:
            raise RequestRefused(422, "this idempotency key stands for another request")
        return await asyncio.shield(known[1])

    def _done(self, key: str, task: asyncio.Task[Receipt]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._known.pop(key, None)  # it may be tried again
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)


class Acting:
    """What can be done to sessions."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._once = Once()

    async def do(self, verb: str, session: str, given: Mapping[str, Any], key: str) -> Receipt:
        """Raises RequestRefused, and what the live session raises."""
        work = getattr(self, f"_{verb}")
        what = hashlib.sha256(json.dumps([verb, session, given], sort_keys=True).encode())
        scoped = key and f"{session} {verb} {key}"

        async def act() -> Receipt:
            with anyio.fail_after(WITHIN):
                async with find_session(session, store=self._hub.store) as live:
                    return {"v": 1, **await work(live, given, scoped)}

        return await self._once.do(scoped, what.hexdigest(), act)

    async def _send(self, live: Session, given: Mapping[str, Any], key: str) -> Receipt:
        name = await live.send(text_of(given, "text"), id=key or None, by=who(given))
        return {"receipt": "kept", "name": name}

    async def _steer(self, live: Session, given: Mapping[str, Any], key: str) -> Receipt:
        return {"receipt": "kept", "name": await live.steer(text_of(given, "text"), by=who(given))}

    async def _interrupt(self, live: Session, given: Mapping[str, Any], key: str) -> Receipt:
        await live.interrupt(by=who(given))
        return {"receipt": "interrupted"}

    async def _stop(self, live: Session, given: Mapping[str, Any], key: str) -> Receipt:
        report = await live.stop(by=who(given))
        return {
            "receipt": "stopped" if report.empty else "survivors",
            "survivors": [visible(one) for one in report.survivors],
        }

    async def _answer(self, live: Session, given: Mapping[str, Any], key: str) -> Receipt:
        name, digest = text_of(given, "request"), text_of(given, "digest")
        found = [one for one in await live.read_requests() if one.request.id == name]
        shown = OpenRequest(found[0].request, digest) if found else None
        decision = _decision(shown, given) if shown else None
        try:
            if shown and decision:
                outcome = await live.answer(shown, decision, by=who(given))
                receipt = decision.behavior if outcome.won else "late"
                return {"receipt": receipt, "by": visible(outcome.by)}
        except AgentError:
            if any(one.request.id == name for one in await live.read_requests()):
                raise  # it is open, and not what was shown
        if (by := await self._decided_by(live.id, name)) is None:
            raise AgentError("this is not open any more: the agent went on without an answer")
        return {"receipt": "late", "by": visible(by)}

    async def _decided_by(self, session: str, request: str) -> str | None:
        """Who has decided it; whoever did writes it down when the agent has it."""
        with anyio.move_on_after(_WRITING):
            while True:
                news = self._hub.news_of(session)
                if decided := await self._hub.store.decision(session, request):
                    return str(decided.value.get("by", ""))
                await news.wait()
        return None

    async def requests(self, session: str) -> list[Receipt]:
        """All that is asked there now, as whoever decides has to see it."""
        async with find_session(session, store=self._hub.store) as live:
            if live.state.phase != "unattended":
                found = live.requests
            else:
                with anyio.fail_after(WITHIN):  # nobody writes down what it asks
                    found = await live.read_requests()
            return [_asked(one, live.secrets.hide) for one in found]

    async def taken(self, session: str) -> list[str]:
        """The names of messages that have reached the agent."""
        with anyio.fail_after(WITHIN):
            async with find_session(session, store=self._hub.store) as live:
                return sorted(await live.taken())


def _asked(opened: OpenRequest, hide: Callable[[str], str]) -> Receipt:
    """All that an open request asks, as whoever decides it has to see it."""
    request = opened.request
    return {
        "request": request.id,
        "digest": opened.digest,
        "tool": visible(request.tool_name, limit=60),
        "heading": questions.heading(request),
        "body": hide(questions.body(request)),
        "readable": questions.readable(request),
        "grants": [visible(one, limit=_TEXT) for one in grants(request)],
        "questions": [
            {
                "question": one["question"],
                "words": visible(one["question"], limit=_TEXT),
                "several": bool(one.get("multiSelect")),
                "options": [
                    {
                        "label": option["label"],
                        "words": visible(option["label"], limit=_TEXT),
                        "about": visible(str(option.get("description") or ""), limit=_TEXT),
                    }
                    for option in one["options"]
                ],
            }
            for one in questions_whole(request)
        ],
    }


def _decision(opened: OpenRequest, given: Mapping[str, Any]) -> PermissionDecision:
    request, behavior = opened.request, given.get("behavior")
    open_questions = questions.questions(request)
    if behavior == "deny":
        message = given.get("message")
        return questions.deny(message if isinstance(message, str) and message else None)
    if behavior != "allow":
        raise RequestRefused(422, "behavior is allow or deny")
    if not open_questions:
        return questions.allow(request, always=given.get("always") is True)
    answers = given.get("answers")
    wanted = [text for text, _ in open_questions]
    if not isinstance(answers, dict) or sorted(answers) != sorted(wanted):
        raise RequestRefused(
            422, "answers has one text for each question, by the question's own text"
        )
    return answer_questions(request, {text: str(answers[text]) for text in wanted})


def text_of(given: Mapping[str, Any], name: str) -> str:
    """The text of that name. Raises RequestRefused."""
    found = given.get(name)
    if not isinstance(found, str) or not found.strip():
        raise RequestRefused(422, f"{name} is a text that is not empty")
    return found


def who(given: Mapping[str, Any]) -> str:
    """Who acts, as others read it: what they call themselves, and that it was on the page."""
    name = given.get("by")
    said = visible(name.strip(), limit=_NAME) if isinstance(name, str) else ""
    return f"{said or 'somebody'} (page on {platform.node()})"
