"""Who may ask, and what every answer carries. All that listens stands behind this.

A token, new at each start or kept in a file, is what lets in. A browser has it as a cookie that no
script reads and no other site sends, and gets it for a code that works once; a program sends it as
`Authorization: Bearer`. It is never part of an address. Beside it:

- *Host* must be a name of ours. A name that leads here by somebody else's DNS (rebinding) is
  refused; an address cannot be rebound, so any is fine.
- What changes something must come from a page of ours (*Origin*), or bring the token itself.
- Whoever tries wrong tokens is refused unheard for a minute.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import secrets
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


_TRIES, _WHILE = 10, 60.0  # wrong tokens of one address within so many seconds
_ADDRESSES = 10_000  # that wrong tokens are remembered of
_LINK = 600.0  # seconds that a one-time link is good for
_KEPT = 30 * 86_400  # seconds that a browser keeps its cookie
_OPEN = ("/api/enter",)  # without a token; and what is not below /api/ is the same for everybody

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


class RequestRefused(Exception):  # not an error: an answer
    """A request that is not served; *status* is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


@dataclass(slots=True)
class Access:
    """The token, the codes that stand for it once, and who has tried in vain."""

    token: str
    url: str | None = None  # under which browsers come, where that is not our own address
    cookie: str = "optio-agents"  # its name
    _codes: dict[str, float] = field(default_factory=dict)  # with the time that each ends
    _wrong: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))

    def new_code(self) -> str:
        """One that lets in one browser, soon."""
        code = secrets.token_urlsafe(24)
        self._codes[code] = time.monotonic() + _LINK
        return code

    def enter(self, client: str, *, code: str = "", token: str = "") -> None:
        """Take a code, which is used up by it, or the token. Raises RequestRefused."""
        self.check_tries(client)
        until = self._codes.pop(code, 0.0)
        if not (until > time.monotonic() or self.is_token(token)):
            self.count_wrong(client)
            known = "this link was used, or is too old: ask `optio-agents serve` for another"
            raise RequestRefused(401, known if code else "this is not the token")

    def is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())

    def count_wrong(self, client: str) -> None:
        if len(self._wrong) >= _ADDRESSES:
            self._wrong.clear()
        self._wrong[client].append(time.monotonic())

    def check_tries(self, client: str) -> None:
        """Raises RequestRefused for whoever was wrong too often."""
        if (tried := self._wrong.get(client)) is None:
            return
        while tried and tried[0] < time.monotonic() - _WHILE:
            tried.popleft()
        if not tried:
            del self._wrong[client]
        elif len(tried) >= _TRIES:
            raise RequestRefused(429, "too many wrong tokens: wait a minute")

    @property
    def outside(self) -> str:
        """The host, with its port, of `url`."""
        return urlsplit(self.url).netloc.lower() if self.url else ""

    def is_ours(self, host: str) -> bool:
        """Whether *host*, of a request, can only mean us."""
        if host == self.outside and host:
            return True
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name == "localhost" or _is_address(name)

    def is_same_origin(self, origin: str, host: str) -> bool:
        """Whether *origin* is a page that was had from *host*."""
        known = urlsplit(self.url or "").scheme
        schemes = [known] if host == self.outside else ["http", "https"]
        return origin.lower() in {f"{scheme}://{host}" for scheme in schemes}

    def cookie_header(self, host: str, *, ends: bool) -> str:
        """What gives a browser the token, or takes it away."""
        behind_tls = (self.url or "").startswith("https:") and host == self.outside
        value, age = ("", 0) if ends else (self.token, _KEPT)
        more = "; HttpOnly; SameSite=Strict" + ("; Secure" if behind_tls else "")
        return f"{self.cookie}={value}; Path=/; Max-Age={age}{more}"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """In front of the whole application, as ASGI has it."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return None  # there is no WebSocket, and nothing to set up

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                more = [(n.encode(), v.encode()) for n, v in HEADERS.items()]
                message["headers"] = [
                    *message["headers"],
                    *(pair for pair in more if pair[0] not in given),
                ]
            await send(message)

        try:
            self._check(scope)
        except RequestRefused as refused:
            return await refuse(refused, answer)
        await self._app(scope, receive, answer)
        return None

    def _check(self, scope: Scope) -> None:
        """Raises RequestRefused."""
        headers = {
            name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]
        }
        client = (scope.get("client") or ("",))[0]
        access, host = self._access, headers.get("host", "").lower()
        if not access.is_ours(host):
            raise RequestRefused(421, "this name is not one of ours: start `serve` with --url")
        changes = scope["method"] not in ("GET", "HEAD")
        below = scope["path"].startswith("/api/")
        bearer = headers.get("authorization", "")
        if below and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise RequestRefused(403, "another site asks for this")
        origin = headers.get("origin")
        from_us = bool(bearer) if origin is None else access.is_same_origin(origin, host)
        if changes and not from_us:
            raise RequestRefused(403, "this does not come from our own page")
        if not below or scope["path"] in _OPEN:
            return
        if bearer:
            access.check_tries(client)
        scheme, _, token = bearer.partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else self._from(headers)
        if not given:
            raise RequestRefused(401, "open the link that `optio-agents serve` prints")
        if not access.is_token(given):
            access.check_tries(client)
            access.count_wrong(client)
            raise RequestRefused(401, "this token is not the one of this `optio-agents serve`")

    def _from(self, headers: dict[str, str]) -> str:
        # by hand: another program's cookie on this address must not spoil the reading of ours
        for one in headers.get("cookie", "").split(";"):
            name, _, text = one.strip().partition("=")
            if name == self._access.cookie:
                return text
        return ""


async def refuse(refused: RequestRefused, send: Send) -> None:
    """Say so, as all our answers are: in JSON."""
    body = json.dumps({"v": 1, "error": refused.text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
