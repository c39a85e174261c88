"""The page in a real browser: each verb, two people at once, a cut link, a hostile agent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.conversation.contract import PermissionRequest
from optio_agents.store import Store
from optio_agents.supervision import RequestOpened, supervise
from optio_agents.supervision.events import OpenRequest, recordable
from optio_agents.team import Team
from optio_agents.testing.model_server import ModelServer
from optio_agents.testing.proxy import FaultProxy
from optio_agents.web.server import serve
from tests.supervision.test_supervise_claude import bash, claude
from tests.support.sessions.supervising import Office
from tests.support.timeouts import BOUND
from tests.web.browser import axe, browsing, page_at
from tests.web.crowds import crowd
from tests.web.serving import code_of, command, until

if TYPE_CHECKING:
    from playwright.async_api import Page

# ruff: noqa: ASYNC240, SIM117  # nobody else needs the loop; a block in a block is meant

RECEIPTS = """() => {
    window.receipts = [];
    const receipt = document.querySelector(".receipt");
    const keep = () => window.receipts.push(receipt.textContent);
    new MutationObserver(keep).observe(receipt, { childList: true });
}"""
ALIKE = ".entry:nth-of-type(n+30)"  # as those before it: looking at each takes seconds
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "[click](javascript:alert(3)) ![x](http://198.51.100.1/x.png) \u202ekcab\u2066 \x1b[2J",
    "</pre><svg onload=alert(4)>{{constructor.constructor('alert(5)')()}}",
)


async def open_session(page: Page, session: str) -> None:
    await page.goto(f"{page.url.partition('#')[0]}#/sessions/{session}")
    await page.wait_for_selector(".head h1:not(:empty)")


async def says(page: Page, selector: str, text: str) -> None:
    await page.locator(selector).filter(has_text=text).first.wait_for()


async def has_tool(page: Page, words: str) -> None:
    """So a tool is told of on the axis of time."""
    pattern = re.compile("^" + words.replace("CLOCK", r"\d\d:\d\d:\d\d"))
    titles = page.locator(".mark.tool title").filter(has_text=pattern)
    await titles.first.wait_for(state="attached")


async def test_a_session_is_seen_spoken_to_and_stopped(office: Office, tmp_path: Path) -> None:
    steps = (
        *(
            "STATUS: 40% <b>on</b>",
            "hear",
            "STATUS: 60% heard",
            "write deliverables/a.md # *Hi* <i>",
        ),
        *("DELIVERABLE: deliverables/a.md", "hear", "STATUS: 80% taken", "say printed <u>"),
        # not `hear`: a signal ends what a shell reads
        "run trap 'echo STATUS: interrupted >>$OPTIO_LOG' INT; while :; do sleep 1000; done",
    )
    given = tmp_path / "notes & more.txt"
    given.write_text("read me")
    with anyio.fail_after(BOUND):
        async with (
            office.store() as store,
            serve(store) as serving,
            browsing(tmp_path / "b") as browser,
        ):
            async with page_at(browser, serving) as page, office.host() as host:
                await says(page, ".none", "There are no sessions yet")
                async with supervise(host, command(*steps), store=store, name="mine") as session:
                    row = page.locator(".row", has_text="mine")  # it comes by itself
                    await row.filter(has_text="40% <b>on</b>").wait_for()
                    await row.locator("a").focus()
                    await page.keyboard.press("Enter")
                    await says(page, ".entry.status", "40% <b>on</b>")
                    await page.get_by_label("Say something").focus()
                    await page.keyboard.type("go on")
                    await page.keyboard.press("Control+Enter")
                    await says(page, ".outbox", "taken by the agent")
                    await says(page, ".entry.status", "80% taken")
                    await page.get_by_role("tab", name="Made").click()
                    await page.get_by_role("button", name="Show").click()
                    assert await page.locator(".shown h2 em").inner_text() == "Hi"
                    assert await page.locator(".shown h2 > i").count() == 0
                    await page.keyboard.press("Shift+Tab")
                    await page.get_by_role("tab", name="Made").focus()
                    await page.keyboard.press("ArrowLeft")
                    await says(page, ".passage", "printed <u>")
                    await page.evaluate(RECEIPTS)
                    await page.set_input_files("input[type=file]", given)
                    await says(page, ".receipt", "is on its host")
                    told = await page.evaluate("window.receipts")
                    assert f"bringing {given.name} to its host: 7 bytes of 7 bytes" in told
                    put = Path(office.taskdir, "workdir/attached", given.name)
                    assert put.read_text() == "read me"
                    assert str(put) in await page.get_by_label("Say something").input_value()
                    await page.get_by_role("button", name="Interrupt").click()
                    await says(page, ".receipt", "interrupted")
                    await page.get_by_role("tab", name="What happened").click()
                    await says(page, ".entry.status", "interrupted")
                    await page.get_by_role("button", name="Stop", exact=True).click()
                    await page.get_by_role("button", name="Stop it").click()
                    await says(page, ".entry.finished", "cancelled: stopped by")
                    assert (await session.result()).outcome == "cancelled"
                await page.get_by_role("link", name="Sessions").click()
                await says(page, "section.over .row", "mine")


async def test_a_request_is_allowed_by_who_has_seen_its_end_and_the_other_is_told_who(
    office: Office, tmp_path: Path
) -> None:
    made = f"{office.taskdir}/workdir/made"
    content = "\n".join(f"line {n}" for n in range(200))
    step = {"tool": "Write", "input": {"file_path": made, "content": content}}
    asks = {
        "tool": "AskUserQuestion",
        "input": {
            "questions": [
                {
                    "question": "Which one?",
                    "header": "One",
                    "multiSelect": False,
                    "options": [
                        {"label": "The first", "description": "it is"},
                        {"label": "The second", "description": "it is, too"},
                    ],
                }
            ]
        },
    }
    ends = bash("echo DONE >> optio.log"), {"text": "**Done** with it."}
    with anyio.fail_after(BOUND):
        async with (
            ModelServer().serve() as api,
            office.store() as store,
            serve(store) as serving,
            browsing(tmp_path / "b") as browser,
            page_at(browser, serving) as ana,
            page_at(browser, serving, phone=True, dark=True) as bob,
            office.host() as host,
        ):
            for page, name in (ana, "ana"), (bob, "bob"):
                await page.click("#me")
                await page.fill("dialog input", name)
                await page.keyboard.press("Enter")
                await says(page, "#me", name)
            spec = claude(office.directory, api, step, asks, *ends)
            async with supervise(host, spec, store=store) as session:
                await says(ana, "section.waiting .row", "waits for you: Write")
                for page in ana, bob:
                    await open_session(page, session.id)
                    await page.wait_for_selector(".request")
                    await page.wait_for_timeout(1500)  # more than the moment
                    assert await page.get_by_role("button", name="Allow").is_disabled()
                    assert await page.get_by_role("button", name="Deny").is_enabled()
                await ana.get_by_role("tab", name="Conversation").click()
                await says(ana, ".passage.tool", "Write")
                asked = ana.get_by_label("All that is asked")
                assert "line 199" in await asked.inner_text()
                await asked.focus()
                await ana.keyboard.press("End")
                allow = ana.get_by_role("button", name="Allow")
                await says(ana, ".request:has(button.main:enabled)", "Write")
                await allow.focus()
                await ana.keyboard.press("Enter")
                await says(ana, ".request .note", "allowed by ana")
                await says(bob, ".request .note", "allow by ana (page on")
                await says(ana, ".request h3", "The agent asks you")
                await says(bob, ".request h3", "The agent asks you")
                for page, choice in (ana, "The second"), (bob, "The first"):
                    card = page.locator(".request:not(.settled)")
                    await card.get_by_label(choice).check()
                    await card.locator(".end").scroll_into_view_if_needed()
                    await says(page, ".request:has(button.main:enabled)", "The second")
                answer = bob.locator(".request:not(.settled) button.main")
                await ana.locator(".request:not(.settled) button.main").click()
                await answer.dispatch_event("click")  # at the same time
                by = re.compile(r"by ((ana|bob) \(page)")  # either may be the first
                notes = [page.locator(".request:last-child .note") for page in (ana, bob)]
                for note in notes:
                    await note.filter(has_text=by).wait_for()
                won = [by.findall(await note.inner_text()) for note in notes]
                assert won[0] == won[1]
                assert (await session.result()).outcome == "done"
            await says(bob, ".entry.decision", "by ana (page on")
            await says(bob, ".entry.decision", "Write {")
            await says(bob, ".entry.finished.well", "done")
            await has_tool(ana, "between CLOCK and CLOCK Write")  # it was there before she looked
            await has_tool(ana, "CLOCK AskUserQuestion")
            await ana.reload()
            write = ana.locator(".passage.tool", has_text="Write")
            await write.locator("summary").click()
            await says(ana, ".passage.tool .diff .plus", "+line 199")
            assert await ana.locator(".passage.agent strong").inner_text() == "Done"
            await has_tool(ana, "between CLOCK and CLOCK Write")
            await has_tool(ana, "between CLOCK and CLOCK AskUserQuestion")
    assert Path(made).read_text() == content


async def test_a_turn_is_steered_while_it_runs(office: Office, tmp_path: Path) -> None:
    with anyio.fail_after(BOUND):
        async with (
            ModelServer().serve() as api,
            office.store() as store,
            serve(store) as serving,
            browsing(tmp_path / "b") as browser,
            page_at(browser, serving) as page,
            office.host() as host,
        ):
            spec = claude(office.directory, api, {"text": "one", "hold": "x"})
            async with supervise(host, spec, store=store) as session:
                await api.held("x")
                await open_session(page, session.id)
                await says(page, ".head .state", "working")
                bar = page.locator(".head .progress")  # of what it has not said takes no room
                assert await bar.evaluate("(node) => node.offsetHeight") < 10
                await page.get_by_label("Say something").fill("turn left")
                await page.get_by_role("button", name="Steer").click()
                await says(page, ".outbox", "taken by the agent")
                api.release("x")
                await until(lambda: "turn left" in json.dumps(api.requests))
                await says(page, ".entry.sent", "turn left")
                await session.stop()


async def test_a_link_that_is_cut_costs_nothing(office: Office, tmp_path: Path) -> None:
    steps = [f"STATUS: {n}% step {n}" for n in range(1, 10)]
    steps = [one for step in steps for one in (step, "hear")]
    with anyio.fail_after(BOUND):
        async with (
            office.store() as store,
            serve(store) as serving,
            browsing(tmp_path / "b") as browser,
        ):
            port = int(serving.address.rpartition(":")[2])
            async with FaultProxy("127.0.0.1", port) as proxy, office.host() as host:
                link = f"http://127.0.0.1:{proxy.port}/#/enter/{code_of(serving.new_link())}"
                async with (
                    page_at(browser, serving, link=link) as page,
                    supervise(host, command(*steps, "DONE: all"), store=store) as session,
                ):
                    await session.read_requests()
                    await open_session(page, session.id)
                    for n in range(1, 10):
                        await says(page, ".entry.status", f"{n}% step {n}")
                        if n % 3 == 0:
                            proxy.cut()
                        await session.send("on")
                    await says(page, ".entry.done", "all")
                    numbers = await page.locator(".entry").evaluate_all(
                        "nodes => nodes.map((one) => Number(one.dataset.number))"
                    )
                    seen = await page.locator(".entry.status .words").all_inner_texts()
    assert seen == [f"{n}% step {n}" for n in range(1, 10)]
    assert numbers == sorted(set(numbers))


async def ask_in(store: Store, session: str) -> None:
    """A request that nobody will answer, as an owner writes it down."""
    rules = [{"toolName": "Bash", "ruleContent": "npm run <b>:*"}]
    suggested = [{"type": "addRules", "behavior": "allow", "rules": rules}]
    about = {"subtype": "can_use_tool", "permission_suggestions": suggested}
    given = {"command": "\n".join(HOSTILE)}
    request = PermissionRequest("Bash", given, {"request": about}, "r1")
    event = RequestOpened(request, OpenRequest.of(request).digest)
    await store.journal(session).append(recordable(event, 1.0))


async def test_a_hostile_agent_is_text_and_everybody_can_use_the_page(
    office: Office, tmp_path: Path
) -> None:
    check = axe()
    lines = [f"say {text}" for text in HOSTILE]
    logs = [f"STATUS: 10% {text}" for text in HOSTILE]
    wide = "run head -c 5000000 /dev/zero | tr '\\0' 'a' >>$OPTIO_LOG; echo >>$OPTIO_LOG"
    steps = (*lines, *logs, wide, f"DONE: {HOSTILE[0]}")

    async def scout(ctx: Any) -> str:
        return f"{HOSTILE[0]} {HOSTILE[1]}"

    with anyio.fail_after(2 * BOUND):  # a browser draws a hundred thousand events
        async with office.store() as store, office.host() as host:
            result = await supervise(host, command(*steps), store=store, title=HOSTILE[0])
            async with Team({"scout": scout}, store=store) as team:
                await team.call("scout", HOSTILE[0], id="top")
            crowd(store.path, 1, over=False, events=100_000, words=HOSTILE[0])
            # more than a page ever holds, or a slow one would show all, from the beginning
            crowd(store.path, 1, first=1, over=False, events=2000, words=HOSTILE[0])
            for asking in "s000000", "s000001":
                await ask_in(store, asking)
            with store.claim("s000000", "somebody"), store.claim("s000001", "somebody"):
                async with serve(store) as serving, browsing(tmp_path / "b") as browser:
                    for dark in False, True:
                        async with page_at(browser, serving, dark=dark, phone=dark) as page:
                            asking = "s000001" if dark else "s000000"
                            await _see_the_hostile(page, result.session, asking, check)


async def _see_the_hostile(page: Page, session: str, asking: str, check: str) -> None:
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url))
    await says(page, ".row .title", HOSTILE[0])
    await _is_accessible(page, check)
    await open_session(page, session)
    await says(page, ".entry.done", HOSTILE[0])
    escaped = await page.locator(".entry.status").nth(1).inner_text()
    assert "\\u202ekcab\\u2066" in escaped
    await page.get_by_role("tab", name="Conversation").click()
    await says(page, ".passage.output", HOSTILE[2])
    await _is_accessible(page, check)
    await open_session(page, asking)
    await says(page, ".grants code", "Bash(npm run <b>:*)")
    await says(page, ".asks pre", HOSTILE[0])
    await says(page, ".entry.permission", "Bash {")  # the last of a great many
    assert await page.locator(".entry").count() < 2000
    await page.get_by_role("button", name="From the beginning").click()
    await says(page, ".entry.status", "1% step 1<script>")
    text = await page.locator(".entry").nth(20).bounding_box()
    await page.wait_for_timeout(200)
    assert await page.locator(".entry").nth(20).bounding_box() == text  # it stays where it is
    await _is_accessible(page, check)
    home = page.url.partition("#")[0]
    await page.goto(f"{home}#/teams")
    await page.locator(".row a.name").click()
    await page.locator(".tree summary").click()
    await says(page, ".tree .markdown", HOSTILE[0])
    await page.get_by_role("button", name="x", exact=True).first.click()  # a link of an agent's
    await says(page, "dialog", "http://198.51.100.1/x.png")
    await page.keyboard.press("Escape")
    await _is_accessible(page, check)
    made = "main script, main img, main svg:not(.timeline), main iframe, main i, main b"
    assert await page.locator(made).count() == 0
    await page.goto(f"{home}#/guide/trust")
    await page.wait_for_selector(".guide h3")
    await _is_accessible(page, check)
    assert not [url for url in asked if not url.startswith(home)], asked


async def _is_accessible(page: Page, check: str) -> None:
    """No serious finding of axe."""
    await page.wait_for_timeout(350)  # colours that change do so by now
    run = f"axe.run({{ exclude: ['{ALIKE}'] }})"
    found = await page.evaluate(f"async () => {{ {check}; return (await {run}).violations }}")
    bad = [
        (one["id"], one["nodes"][0]["html"][:200], one["nodes"][0]["failureSummary"])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert not bad, json.dumps(bad, indent=1)


async def test_who_has_no_token_is_asked_for_it(office: Office, tmp_path: Path) -> None:
    with anyio.fail_after(BOUND):
        async with (
            office.store() as store,
            serve(store, token="x" * 20) as serving,
            browsing(tmp_path / "b") as browser,
        ):
            context = await browser.new_context()
            page = await context.new_page()
            used = serving.new_link()
            async with page_at(browser, serving, link=used) as entered:
                assert "enter" not in entered.url  # in no history
                assert await entered.evaluate("document.cookie") == ""
            await page.goto(used)
            await says(page, ".login", "was used")
            await page.fill("input[type=password]", "wrong")
            await page.keyboard.press("Enter")
            await says(page, ".login", "this is not the token")
            await page.fill("input[type=password]", "x" * 20)
            await page.keyboard.press("Enter")
            await says(page, ".none", "There are no sessions yet")
            await context.close()


ENDLESS = """async () => {
    const { Timeline } = await import("/timeline.js");
    const line = new Timeline();
    line.add({ at: 100, kind: "began", words: "" });
    line.tool(0, { words: "Write", turn: 0, since: 0, until: 900, at: 0 });
    const places = [line.placed()[0].at];
    line.add({ at: 110, kind: "finished", words: "exited" });
    return [...places, line.placed()[0].at];
}"""


async def test_a_tool_of_a_turn_that_had_no_end_is_placed_before_its_sessions(
    office: Office, tmp_path: Path
) -> None:
    with anyio.fail_after(BOUND):
        async with (
            office.store() as store,
            serve(store) as serving,
            browsing(tmp_path / "b") as browser,
            page_at(browser, serving) as page,
        ):
            assert await page.evaluate(ENDLESS) == [500, 105]  # until somebody looked; its end
