"""Who is let in, and what every answer carries."""

from __future__ import annotations

import re
import socket
import time
from importlib.resources import files
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import pytest

from optio_agents.web import guard, server
from optio_agents.web.guard import Access, RequestRefused
from optio_agents.web.server import read_token, serve
from tests.support.sessions.supervising import Office
from tests.support.timeouts import BOUND
from tests.web.crowds import crowd
from tests.web.serving import code_of, visiting

# ruff: noqa: SIM117  # a block in a block is meant

PRIVATE = (
    "/api/sessions",
    "/api/sessions/events",
    "/api/sessions/x",
    "/api/sessions/x/events",
    "/api/sessions/x/deliverables/y",
    "/api/turns",
    "/api/guide",
    "/api/about",
    "/api/no-such-thing",
    "/%61pi/sessions",
    "//api/sessions",
)


@pytest.mark.parametrize("path", PRIVATE)
async def test_nothing_is_told_without_the_token(office: Office, path: str) -> None:
    async with office.store() as store, serve(store) as page:
        async with httpx.AsyncClient(base_url=page.address) as http:
            answer = await http.get(path)
            if path.startswith("//"):  # another address, at which there is nothing
                assert answer.status_code == 404
                return
            assert answer.status_code == 401
            headers = {"cookie": f"optio-agents-{page.address.rpartition(':')[2]}=wrong"}
            assert (await http.get(path, headers=headers)).status_code == 401
            headers = {"authorization": "Bearer wrong"}
            assert (await http.get(path, headers=headers)).status_code == 401


async def test_nothing_is_done_without_the_token(office: Office) -> None:
    async with office.store() as store, serve(store) as page:
        headers = {"origin": page.address}
        async with httpx.AsyncClient(base_url=page.address, headers=headers) as http:
            for path in "/api/sessions/x/stop", "/api/sessions/x/put?name=a", "/api/links":
                assert (await http.post(path, json={})).status_code == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8787", 200),
        ("localhost", 200),
        ("[::1]:99", 200),
        ("100.64.3.4:8787", 200),
        ("page.example", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:8787", 421),
        ("localhost.evil.example", 421),
        ("page.example:8787", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
async def test_a_name_that_was_made_to_lead_here_is_refused(
    office: Office, host: str, status: int
) -> None:
    async with office.store() as store, visiting(store, url="https://page.example/") as visitor:
        answer = await visitor.http.get("/api/sessions", headers={"host": host})
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://evil.example", 403),
        ("null", 403),
        (None, 403),
        ("http://127.0.0.1:1", 403),
        ("https://localhost:{port}", 403),
        ("http://127.0.0.1:{port}", 200),
    ],
)
async def test_only_our_own_page_changes_anything(
    office: Office, origin: str | None, status: int
) -> None:
    async with office.store() as store, visiting(store) as visitor:
        port = visitor.page.address.rpartition(":")[2]
        request = visitor.http.build_request("POST", "/api/links", json={})
        del request.headers["origin"]
        if origin is not None:
            request.headers["origin"] = origin.format(port=port)
        assert (await visitor.http.send(request)).status_code == status


async def test_a_page_behind_tls_is_not_taken_for_one_without() -> None:
    access = Access("token", "https://page.example")
    assert access.is_same_origin("https://page.example", "page.example")
    assert not access.is_same_origin("http://page.example", "page.example")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_site_reads_nothing_but_may_lead_here(office: Office, site: str) -> None:
    async with office.store() as store, visiting(store) as visitor:
        headers = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
        assert (await visitor.http.get("/api/sessions", headers=headers)).status_code == 403
        assert (await visitor.http.get("/", headers=headers)).status_code == 200


async def test_a_link_lets_in_one_browser_once(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with office.store() as store, serve(store) as page:
        headers = {"origin": page.address}
        async with httpx.AsyncClient(base_url=page.address, headers=headers) as http:
            link = page.new_link()
            assert link.startswith(f"{page.address}/#")  # a browser sends no fragment
            code = {"code": code_of(link)}
            entered = await http.post("/api/enter", json=code)
            assert entered.status_code == 200
            cookie = entered.headers["set-cookie"]
            assert re.search(r"; HttpOnly; SameSite=Strict$", cookie)
            assert code["code"] not in cookie
            again = await http.post("/api/enter", json=code)
            assert (again.status_code, "was used" in again.text) == (401, True)
            assert (await http.post("/api/enter", json={"code": ""})).status_code == 401
            monkeypatch.setattr(guard, "_LINK", -1)
            late = {"code": code_of(page.new_link())}
            assert (await http.post("/api/enter", json=late)).status_code == 401
            assert (await http.post("/api/leave")).status_code == 200
            assert (await http.get("/api/sessions")).status_code == 401


async def test_behind_tls_the_cookie_stays_there(office: Office) -> None:
    async with office.store() as store, serve(store, url="https://page.example") as page:
        link = page.new_link()
        assert link.startswith("https://page.example/#")
        headers = {"origin": "https://page.example", "host": "page.example"}
        async with httpx.AsyncClient(base_url=page.address, headers=headers) as http:
            entered = await http.post("/api/enter", json={"code": code_of(link)})
            assert entered.headers["set-cookie"].endswith("; SameSite=Strict; Secure")


async def test_a_program_brings_the_token_itself(office: Office) -> None:
    async with office.store() as store, serve(store, token="x" * 20) as page:
        headers = {"authorization": f"Bearer {'x' * 20}"}
        async with httpx.AsyncClient(base_url=page.address, headers=headers) as http:
            assert (await http.get("/api/sessions")).status_code == 200
            assert (await http.post("/api/links")).status_code == 200
            evil = {"origin": "http://evil.example"}
            assert (await http.post("/api/links", headers=evil)).status_code == 403


async def test_whoever_tries_tokens_is_not_heard_any_more(office: Office) -> None:
    async with office.store() as store, visiting(store, token="x" * 20) as visitor:
        async with httpx.AsyncClient(base_url=visitor.page.address) as other:
            headers = {"origin": visitor.page.address}
            seen = [
                (
                    await other.post("/api/enter", json={"token": str(n)}, headers=headers)
                ).status_code
                for n in range(11)
            ]
            assert seen == [401] * 10 + [429]
            right = {"token": "x" * 20}
            assert (await other.post("/api/enter", json=right, headers=headers)).status_code == 429
            bearer = {"authorization": f"Bearer {'x' * 20}"}
            assert (await other.get("/api/sessions", headers=bearer)).status_code == 429
            cookie = {"cookie": f"optio-agents-{visitor.page.address.rpartition(':')[2]}=wrong"}
            assert (await other.get("/api/sessions", headers=cookie)).status_code == 429
        assert (await visitor.http.get("/api/sessions")).status_code == 200  # who is in, is in


def test_wrong_tokens_are_forgiven_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access("x" * 20)
    for _ in range(10):
        access.count_wrong("here")
    with pytest.raises(RequestRefused):
        access.check_tries("here")
    access.check_tries("there")
    monkeypatch.setattr(guard, "_WHILE", -1.0)
    access.check_tries("here")


async def test_every_answer_forbids_what_a_page_of_ours_does_not_need(office: Office) -> None:
    async with office.store() as store, visiting(store) as visitor:
        for path in "/", "/app.js", "/nothing", "/api/sessions", "/api/sessions/none":
            headers = (await visitor.http.get(path)).headers
            policy = dict(
                part.split(" ", 1) for part in headers["content-security-policy"].split("; ")
            )
            assert policy["default-src"] == "'none'"
            assert {
                policy[name] for name in ("script-src", "style-src", "img-src", "connect-src")
            } == {"'self'"}
            assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "same-origin"
        refused = await visitor.http.get("/", headers={"host": "evil.example"})
        assert "default-src 'none'" in refused.headers["content-security-policy"]


def test_the_page_holds_no_script_and_no_style_of_its_own_and_asks_nobody_else() -> None:
    static = files("optio_agents.web") / "static"
    html = (static / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)[^>]*>|<style|\son\w+=|\sstyle=", html) == []
    weight = 0
    for file in static.iterdir():
        text = file.read_text()
        weight += len(text.encode())
        if file.name.endswith(".js"):
            assert (
                re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(", text)
                == []
            )
        others = set(re.findall(r"https?://[^\s'\"`]+", text)) - {"http://www.w3.org/2000/svg"}
        assert others == set(), file.name
    assert weight < 150_000


@pytest.mark.parametrize("kind", ["others can read", "link", "directory", "short", "two words"])
def test_a_token_file_is_its_users_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "token"
    assert len(read_token(path)) >= 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_token(path) == path.read_text().strip()
    match kind:
        case "others can read":
            path.chmod(0o640)
        case "link":
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
        case "directory":
            path.unlink()
            path.mkdir(0o700)
        case "short":
            path.write_text("short\n")
        case "two words":
            path.write_text("two words that are long enough\n")
    with pytest.raises((ValueError, OSError)):
        read_token(path)


async def test_a_request_that_is_too_large_or_no_json_is_refused(office: Office) -> None:
    async with office.store() as store, visiting(store) as visitor:
        large = await visitor.http.post("/api/enter", content=b" " * (5 << 20))
        assert large.status_code == 413
        for content in b"[]", b"{", b"[" * 100_000, b"\xff":
            assert (await visitor.http.post("/api/enter", content=content)).status_code == 422


async def test_a_connection_that_says_nothing_is_cut_off(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_BEGINNING", 0.2)

    def say_half(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=BOUND) as silent:
            silent.sendall(b"GET / HTTP/1.1\r\nHost: loc")
            try:
                return silent.recv(1)
            except ConnectionResetError:
                return b""

    async with office.store() as store, serve(store) as page:
        port = int(page.address.rpartition(":")[2])
        assert await anyio.to_thread.run_sync(say_half, port) == b""


async def test_who_reads_nothing_is_cut_off_and_costs_a_bounded_buffer(office: Office) -> None:
    """There is more than all buffers on the way hold; a reader that is awake gets it whole."""
    async with office.store() as store:
        crowd(store.path, 1, events=4000, words="x" * 4000)
        async with visiting(store, patience=0.5) as visitor:
            cookie = "; ".join(f"{n}={v}" for n, v in visitor.http.cookies.items())
            port = int(visitor.page.address.rpartition(":")[2])

            def neglect() -> int:
                with socket.socket() as reader:
                    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    reader.settimeout(BOUND)
                    reader.connect(("127.0.0.1", port))
                    wanted = "GET /api/sessions/s000000/events HTTP/1.1"
                    lines = (wanted, "Host: localhost", f"Cookie: {cookie}", "", "")
                    reader.sendall("\r\n".join(lines).encode())
                    began = time.monotonic()
                    while not _is_reset(reader) and time.monotonic() - began < BOUND:
                        time.sleep(0.02)
                    return int(_is_reset(reader))

            assert await anyio.to_thread.run_sync(neglect) == 1
            assert len(await visitor.read("/api/sessions/s000000/events")) == 4002


def _is_reset(reader: socket.socket) -> bool:
    """Whether the other end has thrown this connection away, its own buffer with it."""
    state = reader.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return state[0] == 7  # TCP_CLOSE
