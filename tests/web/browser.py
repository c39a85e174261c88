"""A real browser: Debian's chromium, driven by Playwright, with nothing of anybody's own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.components import cache, needs, unavailable
from tests.support.timeouts import BOUND

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

    from optio_agents.web.server import Serving

PINNED_AXE = "4.13.0"  # tests/run names it, too
_FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_HOW = "OPTIO_AGENTS_BROWSER=1 ./tests/run fetches it"
PHONE = {"width": 390, "height": 780}
DESKTOP = {"width": 1280, "height": 800}


def axe() -> str:
    """What checks whether everybody can use a page."""
    found = cache() / f"axe-core-{PINNED_AXE}" / "axe.min.js"
    if not found.exists():
        unavailable(f"axe-core {PINNED_AXE} is not there; {_HOW}")
    return found.read_text()


@asynccontextmanager
async def browsing(home: Path) -> AsyncIterator[Browser]:
    """A browser for the block; *home* is where it keeps what it must."""
    program = needs("chromium")
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        unavailable(f"playwright is not installed; {_HOW}")
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(
            executable_path=program,
            args=_FLAGS,
            chromium_sandbox=os.geteuid() != 0,
            env={"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def page_at(
    browser: Browser, serving: Serving, *, phone: bool = False, dark: bool = False, link: str = ""
) -> AsyncIterator[Page]:
    """A person's page, that came in by the link; what goes wrong in it fails the test."""
    context = await browser.new_context(
        viewport=PHONE if phone else DESKTOP,  # type: ignore[arg-type]
        color_scheme="dark" if dark else "light",
        has_touch=phone,
        locale="en-US",
    )
    context.set_default_timeout(BOUND * 1000)
    page, wrong = await context.new_page(), list[str]()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if _is_wrong(said.text) else None)
    page.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
    await page.goto(link or serving.new_link())
    await page.wait_for_selector("#me:not(:empty)")
    try:
        yield page
    finally:
        await context.close()
    assert not wrong, wrong


def _is_wrong(text: str) -> bool:
    return "Content Security Policy" in text or "Uncaught" in text or "TrustedHTML" in text
