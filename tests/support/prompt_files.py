"""The files in `prompts/`, rendered: `python -m tests.support.prompt_files` writes them."""

from pathlib import Path

from optio_agents.protocol.features import ProtocolFeatures
from optio_agents.protocol.prompt import (
    LOG_CHANNEL_PROMPT,
    PROTOCOL_VERSION,
    RESUME_NOTICE,
    build_log_channel_prompt,
    compose_agents_md,
)

DIRECTORY = Path(__file__).parents[2] / "prompts"
ALL = ProtocolFeatures(browser="redirect", client_messages=True, caller_messages=True)

_TASK = """\
# Your task

Find out why the import of large files is slow, make it at least twice as fast, and hand over a \
short report with the measurements before and after.
"""

_RESUMED = f"""\
## When you are resumed

If a message says "{RESUME_NOTICE}", you were interrupted and your files are as you left them. \
Read `optio.log` to see what you have already said, and go on from there.
"""

_README = """\
# Prompts, ready to paste

Each file teaches an agent that knows nothing of optio-agents how to report its work: a log of \
one-line entries, and files handed over. They differ in who is listening.

| file | paste it when |
|---|---|
| [log-channel.md](log-channel.md) | nobody answers the agent: you read its log, or `optio-agents \
watch` does |
| [log-channel-supervised.md](log-channel-supervised.md) | a session follows the agent and answers \
each file that it hands over |
| [log-channel-full.md](log-channel-full.md) | the same, in a session with every feature switched \
on: browser pages, messages to the user interface and to the program that started it |
| [agents-example.md](agents-example.md) | never: it shows a whole AGENTS.md, with a task and what \
to do when resumed |

Do not paste the supervised ones where nobody answers: the agent would end its turn to wait for a \
reply. A session that starts the agent itself gives it the right prompt; these files are for \
agents that you start.

- **CLAUDE.md or AGENTS.md**: put the text at the end of the file in the directory that the agent \
starts in. It holds for every agent that reads the file, so take it out again after the task.
- **A system prompt**: `claude --append-system-prompt "$(cat log-channel.md)"`, or the field for \
it in your tool.
- **Any chat**: paste it in front of your task.

The agent writes `optio.log` and `deliverables/` into the directory it was started in; in a git \
repository list both in `.git/info/exclude`.

These files are rendered from the code that also reads the log, and a test compares them. For \
other combinations: `build_log_channel_prompt(features, replies=…)`.
"""


def rendered() -> dict[str, str]:
    """Each file's name and text."""
    version = f"<!-- optio-agents log channel, protocol version {PROTOCOL_VERSION} -->\n\n"
    texts = {
        "README.md": _README,
        "log-channel.md": build_log_channel_prompt(replies=False),
        "log-channel-supervised.md": LOG_CHANNEL_PROMPT,
        "log-channel-full.md": build_log_channel_prompt(ALL),
        "agents-example.md": compose_agents_md(
            _TASK, documentation=LOG_CHANNEL_PROMPT, resume_section=_RESUMED
        ),
    }
    return {name: version + text for name, text in texts.items()}


if __name__ == "__main__":
    for name, text in rendered().items():
        (DIRECTORY / name).write_text(text)
