"""What agents are taught is what the parser reads."""

import re
import subprocess
from itertools import product
from pathlib import Path

import pytest

from optio_agents import (
    LOG_CHANNEL_PROMPT,
    RESUME_NOTICE,
    ProtocolFeatures,
    StatusEvent,
    build_log_channel_prompt,
    compose_agents_md,
    get_protocol,
    parse_log_line,
)
from optio_agents.protocol.keywords import KEYWORDS
from tests.support.prompt_files import ALL, DIRECTORY, rendered

COMBINATIONS = [
    (ProtocolFeatures(browser, *messages), replies)
    for browser in ("ignore", "suppress", "redirect")
    for *messages, replies in product([False, True], repeat=3)
]
NAMES = "|".join(row.name for row in KEYWORDS)
CODE = re.compile(rf"`((?:{NAMES})(?:: [^`]+|\[: [^`]+))`")  # a grammar or an example
EXAMPLES = {line: event for row in KEYWORDS for line, event in row.examples.items()}
GRAMMARS = {row.grammar for row in KEYWORDS}
WAITING = re.compile(r"\b(wait|reply|replies|answer|System:)", re.IGNORECASE)


@pytest.mark.parametrize("name", rendered())
def test_a_ready_file_is_what_the_code_renders(name: str) -> None:
    ready = (DIRECTORY / name).read_text()
    assert ready == rendered()[name], "python -m tests.support.prompt_files"
    assert rendered()[name].startswith("<!-- optio-agents log channel, protocol version 1 -->\n")


def test_there_is_no_other_ready_file() -> None:
    assert {path.name for path in DIRECTORY.iterdir()} == set(rendered())


@pytest.mark.parametrize("name", rendered())
def test_every_line_shown_in_a_ready_file_reads_as_the_table_promises(name: str) -> None:
    shown = CODE.findall((DIRECTORY / name).read_text())
    assert (name == "README.md") == (shown == [])
    for line in shown:
        if line not in GRAMMARS:
            assert parse_log_line(line, features=ALL) == EXAMPLES[line]


@pytest.mark.parametrize(("features", "replies"), COMBINATIONS)
def test_a_keyword_is_taught_if_and_only_if_it_is_read(
    features: ProtocolFeatures, replies: bool
) -> None:
    prompt = build_log_channel_prompt(features, replies=replies)
    for row in KEYWORDS:
        line, event = next(iter(row.examples.items()))
        assert (f"`{row.grammar}`" in prompt) == (parse_log_line(line, features=features) == event)
        assert (f"`{line}`" in prompt) == row.enabled(features)
        assert (row.name in prompt) == row.enabled(features)


@pytest.mark.parametrize(("features", "replies"), COMBINATIONS)
def test_the_headings_say_who_listens(features: ProtocolFeatures, replies: bool) -> None:
    prompt = build_log_channel_prompt(features, replies=replies)
    headings = ["## Log channel", "## Deliverables", "## Messages from the harness"]
    assert re.findall("^#.*", prompt, re.MULTILINE) == headings[: 2 + replies]
    assert bool(WAITING.search(prompt)) == replies
    assert ("impossible to launch a browser" in prompt) == (features.browser == "suppress")


@pytest.mark.parametrize(
    "rule",
    [
        "`>>`",
        "never use `>`",
        "all earlier lines unchanged",
        "End each entry with a newline",
        "`tail -c 1 ./optio.log`",
        "nothing but entries",
        "Never redirect the output of other commands",
        "`./deliverables/`",
        "**after** it is complete and final",
        "One `DONE` or `ERROR` comes last",
        "`$OPTIO_LOG`",
        "`$OPTIO_DELIVERABLES`",
    ],
)
def test_the_shortest_form_holds_every_rule(rule: str) -> None:
    assert rule in build_log_channel_prompt(replies=False)


def test_the_shortest_form_is_short() -> None:
    prompt = build_log_channel_prompt(replies=False)
    # Tokenizers make about one token of a short word or a sign; long words take two.
    tokens = re.findall(r"\w{1,8}|[^\w\s]", prompt)
    assert len(tokens) <= 700


def test_with_replies_the_turn_ends_and_the_file_rests() -> None:
    assert get_protocol().documentation == LOG_CHANNEL_PROMPT == build_log_channel_prompt()
    for rule in ("end your turn", "do not sleep, poll", "a newer version needs a new name"):
        assert rule in LOG_CHANNEL_PROMPT
    assert "may be answered" in build_log_channel_prompt(ProtocolFeatures(caller_messages=True))


@pytest.mark.parametrize("place", [None, "in it's place"])
def test_the_command_shown_appends_the_entry_shown(place: str | None, tmp_path: Path) -> None:
    logdir, elsewhere = tmp_path / (place or "."), tmp_path / "elsewhere"
    logdir.mkdir(exist_ok=True)
    elsewhere.mkdir()
    prompt = build_log_channel_prompt(logdir=str(logdir) if place else None)
    (command,) = re.findall("```sh\n(.*?)```", prompt, re.DOTALL)
    assert "$" not in command  # a variable defeats every rule about what may be done unasked
    for _ in range(2):
        subprocess.run(["/bin/sh", "-c", command], cwd=elsewhere if place else logdir, check=True)
    first, second = (logdir / "optio.log").read_text().splitlines()
    assert first == second
    assert parse_log_line(first) == StatusEvent(40, "parser works, writing its tests")


@pytest.mark.parametrize(("features", "replies"), COMBINATIONS)
def test_a_place_that_is_known_is_named_in_full_and_no_other(
    features: ProtocolFeatures, replies: bool
) -> None:
    prompt = build_log_channel_prompt(features, replies=replies, logdir="/srv/p/.optio/1")
    assert "`/srv/p/.optio/1/optio.log`" in prompt
    assert "`/srv/p/.optio/1/deliverables/`, which is there already" in prompt
    assert "`DELIVERABLE: /srv/p/.optio/1/deliverables/report.md`" in prompt
    for unclear in ("$OPTIO", "./deliverables", "you were started in"):
        assert unclear not in prompt
    assert prompt.count("./optio.log") == 1  # as the one that nobody reads
    assert bool(WAITING.search(prompt)) == replies


def test_an_agents_md_is_the_task_the_channel_and_the_resume_section() -> None:
    assert compose_agents_md("# Task\n", documentation="doc\n") == "# Task\n\ndoc\n"
    assert compose_agents_md("\n", documentation="doc", resume_section="r\n\n") == "doc\n\nr\n"
    assert RESUME_NOTICE == "you have been resumed"
