"""The instructions file of an agent: all of it from one place, and nothing in it untrue."""

import pytest

from optio_agents.context import SYSTEM_MESSAGE_PREFIX
from optio_agents.prompt import (
    BASE_PROMPT_POST,
    DEFAULT_CONVERSATION_INSTRUCTIONS,
    AgentPromptProfile,
    compose_instructions_file,
    downloadables_block,
)
from optio_agents.protocol import RESUME_NOTICE, get_protocol, parse_log_line

PROFILE = AgentPromptProfile(
    instructions_file="CLAUDE.md", state_dir="home/.claude/", state_dir_contents="its history"
)


def compose(task="Count the sheep.", *, profile=PROFILE, workdir_exclude=("*.o",), **options):
    return compose_instructions_file(
        task, profile=profile, workdir_exclude=list(workdir_exclude), **options
    )


def test_it_teaches_the_very_protocol_that_is_read():
    protocol = get_protocol(browser="suppress", client_messages=True)
    text = compose(documentation=protocol.documentation)
    assert protocol.documentation in text
    assert get_protocol(browser="redirect").documentation in compose()
    assert "BROWSER:" not in compose(profile=AgentPromptProfile(browser="suppress"))


def test_the_task_stands_behind_all_that_frames_it():
    text = compose(
        profile=AgentPromptProfile(preamble="# House rules\n\n", delivery_section="## Say")
    )
    parts = ["# House rules", "## Deliverables", "## Resumes", "## Say", BASE_PROMPT_POST]
    places = [text.index(part) for part in [*parts, "Count the sheep."]]
    assert places == sorted(places)
    assert text.endswith("\n\nCount the sheep.\n")
    assert text.startswith("# House rules")


def test_without_a_log_channel_nothing_speaks_of_its_keywords():
    text = compose(host_protocol=False)
    assert "optio.log" not in text
    assert "DELIVERABLE" not in text
    assert SYSTEM_MESSAGE_PREFIX.strip() in text


def test_a_conversation_needs_no_frame():
    text = compose(DEFAULT_CONVERSATION_INSTRUCTIONS, omit_task_framing=True)
    assert "## Task" not in text
    assert text.endswith(f"\n\n{DEFAULT_CONVERSATION_INSTRUCTIONS}\n")


def test_what_survives_a_resume_is_said_as_it_is():
    text = compose(capture_max_bytes=5 << 20)
    assert "`*.o`" in text
    assert "inside an excluded subdirectory" in text
    assert "**Your `home/.claude/` directory (its history)" in text
    assert "REFRESHED:CLAUDE.md" in text
    assert "over 5 MB" in text
    assert "inside an excluded" not in compose(workdir_exclude=())
    assert "No paths are excluded" in compose(workdir_exclude=())
    assert "resume" not in compose(supports_resume=False).lower().replace("to resume", "")


def test_how_a_resume_is_noticed():
    notice = f"`{SYSTEM_MESSAGE_PREFIX}{RESUME_NOTICE}` message on your input channel"
    polling = "At the start of every new incoming user message"
    assert polling in compose()
    assert notice not in compose()
    told = compose(check_resume_log_every_message=False)
    assert notice in told
    assert polling not in told


def test_the_list_of_things_to_do_is_asked_for_where_the_agent_has_one():
    assert "list of things to do" not in compose()
    text = compose(profile=AgentPromptProfile(todo_tool="todo_write"))
    assert "the `todo_write` tool" in text
    assert text.index("list of things to do") < text.index("Count the sheep.")


def test_downloads_and_directories_follow_the_task():
    text = compose(file_download=True, fs_isolation_dirs=[("/wd", "rwx"), ("/opt", "rox")])
    assert downloadables_block(comparative=True) in text
    assert downloadables_block(comparative=False) in compose(
        file_download=True, host_protocol=False
    )
    assert "only these directories and what is below them: `/wd`, `/opt` (read-only)." in text
    assert "Filesystem access" not in compose()


@pytest.mark.parametrize("options", [{}, {"host_protocol": False}])
def test_no_line_around_the_protocol_reads_as_an_entry(options):
    text = compose(documentation="", file_download=True, **options)
    kinds = {type(parse_log_line(line)).__name__ for line in text.splitlines()}
    assert kinds == {"UnknownLine"}
