"""The command as it looks: real agents in a real terminal, drawn as SVG."""

from __future__ import annotations

import io
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from rich.console import Console
from rich.text import Text

from optio_agents.testing.model_server import ModelServer, scripted
from optio_agents.testing.model_server.shapes import Step
from tests.support.terminal import Desk, Terminal

# rich's own, without the fonts that it would have fetched from elsewhere
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""

WIDTH, HEIGHT = 104, 24

TASKS = {"tests": "Fix the failing tests", "docs": "Write the pages", "bench": "Make it quicker"}


def _says(*lines: str) -> Step:
    quoted = " ".join(f"'{line}'" for line in lines)
    command = f"printf '%s\\n' {quoted} >> optio.log"
    return {"tool": "Bash", "input": {"command": command, "description": "Report"}}


STEPS: dict[str, list[Step]] = {
    "tests": [
        _says("STATUS: 20% 212 tests, 9 fail", "STATUS: 64% the parser is left"),
        {"text": "The parser takes a tab for a blank.", "hold": "tests"},
    ],
    "docs": [
        _says("STATUS: 40% pages are written"),
        {
            "tool": "Bash",
            "input": {"command": "npm run docs -- --strict", "description": "Build the pages"},
        },
    ],
    "bench": [
        _says("STATUS: 80% the second run"),
        {**_says("DONE: twice as fast"), "hold": "bench"},
        {"text": "It is twice as fast now."},
    ],
}


async def draw(directory: Path) -> None:
    """Write `overview.svg` into *directory*: three agents, of which one asks and one is done."""
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="optio-")), "home")
        await anyio.Path(home).mkdir()
        desk = Desk(home)
        api = await stack.enter_async_context(ModelServer().serve())
        given = desk.has_claude(api).split()
        terminal = await stack.enter_async_context(desk.terminal(WIDTH, HEIGHT))
        for name, title in TASKS.items():
            named = ("--name", name, "--title", title)
            ran = await desk.runs("run", "--detach", *named, *given, scripted(*STEPS[name]))
            assert ran.returncode == 0, ran.stderr
        await terminal.type("clear; optio-agents attach")
        await api.held("bench")
        api.release("bench")
        await terminal.until(r"^bench .*done")
        await terminal.until("^y allow")
        await _save(terminal, directory / "overview.svg", "optio-agents attach")
        await terminal.key("q")
        await terminal.until(r"^\$$")
        for name in TASKS:
            await desk.runs("stop", name)


async def _save(terminal: Terminal, path: Path, title: str) -> None:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi((await terminal.colours()).rstrip(), no_wrap=True))
    drawn = console.export_svg(title=title, code_format=FORMAT, unique_id=path.stem)
    await anyio.Path(path).write_text(drawn)
