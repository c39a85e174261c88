"""All addresses, and what each gives. The guide's page about it is the contract.

GET  /api/sessions                             how all stand, as `ls --json` has it
GET  /api/sessions/events                      the same, live
GET  /api/sessions/ID                          one
GET  /api/sessions/ID/events                   what happens in it, as `logs --json` has it
GET  /api/sessions/ID/requests                 what it asks
GET  /api/sessions/ID/taken                    names of messages that reached the agent
GET  /api/sessions/ID/conversation             what its output tells, live
GET  /api/sessions/ID/deliverables[/PATH]      what it has made; one of them, to take away
GET  /api/sessions/ID/text/PATH                one of them, to show
GET  /api/sessions/ID/changes                  the diff of its git tree
POST /api/sessions/ID/VERB                     send, steer, interrupt, stop, answer; put?name=
GET  /api/turns, /api/turns/TEAM/TURN          what was asked of teams; a tree, live
GET  /api/questions                            what waits for people in teams
POST /api/turns/TEAM/TURN/answer               answer for one of them
GET  /api/guide, /api/guide/PAGE               the guide
GET  /api/about                                which version, on which machine, for whom
POST /api/enter, /api/leave, /api/links        a browser comes and goes; a link for another one
"""

from __future__ import annotations

import getpass
import json
import platform
import time
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files as resources
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from optio_agents.cli.exits import sentence
from optio_agents.cli.output import as_json
from optio_agents.cli.verbs.prompt import pages
from optio_agents.errors import (
    AgentError,
    HostError,
    NoSuchSession,
    OptioAgentsError,
    StoreError,
)

from . import files, streams, turns
from .acting import Acting
from .conversation import conversation
from .guard import RequestRefused

if TYPE_CHECKING:
    from starlette.requests import Request

    from optio_agents.team.stores.journal import TurnJournal

    from .guard import Access
    from .hub import Hub


_BODY = 4 << 20  # bytes of a request but for files
_VERBS = ("send", "steer", "interrupt", "stop", "answer")
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
}


class Api:
    """What answers, once `Guard` let it through."""

    def __init__(self, hub: Hub, access: Access, reader: TurnJournal, *, patience: float) -> None:
        self._hub, self._access, self._reader = hub, access, reader
        self._acting = Acting(hub)
        self._patience = patience
        self._static = dict(_static())

    def application(self) -> Starlette:
        one = "/api/sessions/{session}"
        routes = [
            Route("/api/sessions", self.sessions),
            Route("/api/sessions/events", self.overview),
            Route(one, self.session),
            Route(f"{one}/events", self.events),
            Route(f"{one}/requests", self.requests),
            Route(f"{one}/taken", self.taken),
            Route(f"{one}/conversation", self.conversation),
            Route(f"{one}/deliverables", self.deliverables),
            Route(f"{one}/deliverables/{{path:path}}", self.deliverable),
            Route(f"{one}/text/{{path:path}}", self.text),
            Route(f"{one}/changes", self.changes),
            Route(f"{one}/put", self.put, methods=["POST"]),
            Route(f"{one}/{{verb}}", self.act, methods=["POST"]),
            Route("/api/turns", self.turns),
            Route("/api/questions", self.questions),
            Route("/api/turns/{team}/{turn}", self.tree),
            Route("/api/turns/{team}/{turn}/answer", self.answer, methods=["POST"]),
            Route("/api/guide", self.guide),
            Route("/api/guide/{page}", self.guide_page),
            Route("/api/about", self.about),
            Route("/api/enter", self.enter, methods=["POST"]),
            Route("/api/leave", self.leave, methods=["POST"]),
            Route("/api/links", self.links, methods=["POST"]),
            Route("/{name:path}", self.static),
        ]
        handlers: Any = {RequestRefused: _refused, OptioAgentsError: _failed, TimeoutError: _failed}
        return Starlette(routes=routes, exception_handlers=handlers)

    async def _id(self, request: Request) -> str:
        """Of the session that is meant, which may be named or shortened."""
        given = request.path_params["session"]
        return given if given in self._hub.rows else (await self._hub.store.session(given)).id

    def _stream(self, work: streams.Work) -> streams.EventStream:
        return streams.EventStream(work, self._patience)

    async def sessions(self, request: Request) -> Response:
        rows = ",".join(row.record for row in self._hub.rows.values())
        return _json(f'{{"v":1,"place":"{self._hub.place}","sessions":[{rows}]}}')

    async def overview(self, request: Request) -> streams.EventStream:
        return self._stream(partial(streams.overview, self._hub, _place(request)))

    async def session(self, request: Request) -> Response:
        session = await self._id(request)
        row = self._hub.rows.get(session)
        if row is None:
            raise NoSuchSession(f"there is no session {session}")
        return _json(row.record)

    async def events(self, request: Request) -> streams.EventStream:
        place = _place(request)
        if place and not (place.isdecimal() and len(place) < 18):
            raise RequestRefused(422, "a place in the events of a session is a number")
        session = await self._id(request)
        return self._stream(partial(streams.session_events, self._hub, session, int(place or 0)))

    async def requests(self, request: Request) -> Response:
        return _answer({"requests": await self._acting.requests(await self._id(request))})

    async def taken(self, request: Request) -> Response:
        return _answer({"taken": await self._acting.taken(await self._id(request))})

    async def conversation(self, request: Request) -> streams.EventStream:
        session = await self._id(request)
        return self._stream(partial(conversation, self._hub, session, _place(request)))

    async def deliverables(self, request: Request) -> Response:
        found = await files.deliverables(self._hub.store, await self._id(request))
        return _answer({"deliverables": found})

    async def deliverable(self, request: Request) -> files.Download:
        path = request.path_params["path"]
        return files.Download(self._hub.store, await self._id(request), path)

    async def text(self, request: Request) -> Response:
        path = request.path_params["path"]
        return _answer(await files.as_text(self._hub.store, await self._id(request), path))

    async def changes(self, request: Request) -> Response:
        return _answer(await files.changes(self._hub.store, await self._id(request)))

    async def act(self, request: Request) -> Response:
        verb = request.path_params["verb"]
        if verb not in _VERBS:
            raise RequestRefused(404, f"a verb is one of {', '.join(_VERBS)} and put")
        given, key = await _given(request), request.headers.get("idempotency-key", "")
        return _answer(await self._acting.do(verb, await self._id(request), given, key))

    async def put(self, request: Request) -> Response:
        name, session = request.query_params.get("name", ""), await self._id(request)
        return _answer(await files.put(self._hub.store, session, name, request.stream()))

    async def turns(self, request: Request) -> Response:
        return _answer({"turns": await turns.roots(self._reader)})

    async def tree(self, request: Request) -> streams.EventStream:
        team, turn = request.path_params["team"], request.path_params["turn"]
        return self._stream(partial(turns.tree, self._hub, self._reader, team, turn))

    async def questions(self, request: Request) -> Response:
        return _answer({"questions": await turns.questions(self._reader)})

    async def answer(self, request: Request) -> Response:
        team, turn = request.path_params["team"], request.path_params["turn"]
        return _answer(await turns.answer(self._reader, team, turn, await _given(request)))

    async def guide(self, request: Request) -> Response:
        found = [
            {"page": name, "title": text.partition("\n")[0].removeprefix("# ")}
            for name, text in pages().items()
        ]
        return _answer({"pages": found})

    async def guide_page(self, request: Request) -> Response:
        text = pages().get(request.path_params["page"])
        if text is None:
            raise RequestRefused(404, "the guide has no such page")
        return _answer({"text": text})

    async def about(self, request: Request) -> Response:
        known = {"version": version("optio-agents"), "host": platform.node()}
        return _answer({**known, "name": getpass.getuser()})

    async def enter(self, request: Request) -> Response:
        given = await _given(request)
        client = request.client.host if request.client else ""
        words = {name: str(given.get(name) or "") for name in ("code", "token")}
        self._access.enter(client, code=words["code"], token=words["token"])
        return self._with_cookie(request, ends=False)

    async def leave(self, request: Request) -> Response:
        return self._with_cookie(request, ends=True)

    def _with_cookie(self, request: Request, *, ends: bool) -> Response:
        answer = _answer({})
        host = request.headers.get("host", "").lower()
        answer.headers["set-cookie"] = self._access.cookie_header(host, ends=ends)
        return answer

    async def links(self, request: Request) -> Response:
        return _answer({"path": f"/#/enter/{self._access.new_code()}"})

    async def static(self, request: Request) -> Response:
        found = self._static.get(request.path_params["name"] or "index.html")
        if found is None:
            raise RequestRefused(404, "there is nothing of that name")
        body, kind, tag = found
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=kind, headers=headers)


def _static() -> Any:
    for file in (resources("optio_agents.web") / "static").iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind:
            body = file.read_bytes()
            yield file.name, (body, kind, f'"{sha256(body).hexdigest()[:20]}"')


def _place(request: Request) -> str:
    """Behind what a stream is to begin: where a browser was when it was cut off, or `?after=`."""
    return request.headers.get("last-event-id") or request.query_params.get("after", "")


async def _given(request: Request) -> dict[str, Any]:
    """The body of a request, which is a JSON object. Raises RequestRefused."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > _BODY:
            raise RequestRefused(413, f"a request has at most {_BODY >> 20} MiB")
    try:
        given = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise RequestRefused(422, "the body is a JSON object")
    return given


def _json(text: str, status: int = 200) -> Response:
    return Response(text, status, media_type="application/json")


def _answer(values: dict[str, Any]) -> Response:
    return _json(as_json({"v": 1, "at": time.time(), **values}))


async def _refused(request: Request, error: RequestRefused) -> Response:
    return _json(as_json({"v": 1, "error": error.text}), error.status)


async def _failed(request: Request, error: Exception) -> Response:
    """What went wrong in words, and a status that says whose fault it is."""
    match error:
        case NoSuchSession():
            status = 404
        case AgentError():
            status = 409
        case HostError() | TimeoutError():
            status = 502
        case StoreError():
            status = 503
        case _:
            status = 500
    return _json(as_json({"v": 1, "error": sentence(error)}), status)
