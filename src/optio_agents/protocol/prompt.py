"""The words that teach an agent the log channel, made from the table that the parser reads.

The command that is taught names its file literally. Claude Code never allows a command with a
variable in it unasked, whatever its rules say, so `"$OPTIO_LOG"` made a question of each entry.
"""

import shlex

from .features import ProtocolFeatures
from .keywords import KEYWORDS

PROTOCOL_VERSION = 1
RESUME_NOTICE = "you have been resumed"

_PLAIN = ProtocolFeatures()

_LOG = """\
## Log channel

Somebody follows your work from afar and sees only what you write into the file {where}. \
Each line is one entry and starts, at its first character and in capitals, with a keyword:

{entries}

Write entries like this:

```sh
printf '%s\\n' '{example}' >> {log}
```

- **Write each entry with a command of its own, as above**: with a variable in it, or another \
command beside it, a person may have to approve it first.
- **Append with `>>`; never use `>`**, which destroys what you said before. If you have no \
shell, write the file back with all earlier lines unchanged and your entry behind them.
- **End each entry with a newline.** Until then nobody reads it. `tail -c 1 {log}` must \
show an empty line, not a character.
- **Write nothing but entries into the file.** Never redirect the output of other commands into \
it, and use no Markdown in it.
- **One `DONE` or `ERROR` comes last.** It ends the session; write nothing after it.\
"""

_PASTED = """\
`optio.log` in the directory you were started in. If other instructions, or `$OPTIO_LOG`, name the \
full path of a log for your entries, it is that file instead; look it up once. Where this text \
says `./optio.log`, write its full path when you work in another directory\
"""

_KNOWN = """\
`{log}`. Where other instructions name another log, as `./optio.log`, this one counts and nobody \
reads theirs\
"""

_NO_BROWSER = """\
There is no browser here and nobody sees this screen: it is impossible to launch a browser, do not \
try to. If a person must visit a page, put its address into an `ATTENTION:` entry.\
"""

_DELIVERABLES = """\
## Deliverables

Put each file that you hand over into `{directory}`{there}. Announce it with a \
`DELIVERABLE:` entry **after** it is complete and final: it is fetched as soon as the entry is \
there. One entry for each file; a directory cannot be announced, so pack it into one file.\
"""

_FINAL = " From then on leave it as it is; a newer version gets a new name."
_CALLER_REPLIES = " A `CALLER_MESSAGE:` entry may be answered in the same way."

_REPLIES = """\
## Messages from the harness

Some of the messages you receive do not come from a person but from the program that follows \
your log. They begin with `System: `. It answers each `DELIVERABLE:` entry with one such message:

- **It accepts the file**: go on.
- **It asks for a change, or says what is wrong** (missing, outside of `deliverables/`, too \
large): mend that and announce the file again.
- **It reports trouble on its own side**: your file is fine. Do something else and announce it \
again later.

After you announce a file, **end your turn**. The answer arrives as your next message; do not \
sleep, poll or run a command to wait for it. Until it arrives leave the announced file as it is; \
a newer version needs a new name. Write `DONE` only when all your files have been accepted.\
"""


_CHECKED = """\
## After DONE

`DONE` is checked before it counts: a command is run where you work, or a program looks at what \
you did.\
"""

_MEND = """\
 After you write `DONE`, **end your turn**. If the check fails, your next message says so, with \
what it found, and begins with `System: DONE was not accepted`. That `DONE` was not the end: mend \
what it says and write `DONE` again. If the check passes you hear nothing more. You \
have only a few tries.\
"""

_ONE_TRY = " If the check fails, your work counts as not done, and you get no second try."


def after_done(*, replies: bool = True) -> str:
    """What an agent must know whose DONE is checked, as Markdown."""
    return _CHECKED + (_MEND if replies else _ONE_TRY)


def build_log_channel_prompt(
    features: ProtocolFeatures = _PLAIN,
    *,
    replies: bool = True,
    logdir: str | None = None,
    checked: bool = False,
) -> str:
    """What an agent must know to be followed, as Markdown.

    Without *replies* nothing in it makes the agent wait for an answer: for agents that nobody
    answers. *logdir* is the directory on the agent's host, absolute, that holds `optio.log` and
    `deliverables/`, which is there already; without it, they are where the agent is started.
    Its DONE may be *checked* before it counts.
    """
    if not isinstance(features, ProtocolFeatures):
        raise TypeError(f"features are ProtocolFeatures(…), and not {features!r}")
    sections = [_log(features, logdir)]
    if features.browser == "suppress":
        sections.append(_NO_BROWSER)
    sections.append(_deliverables(logdir) + ("" if replies else _FINAL))
    if replies:
        sections.append(_REPLIES + (_CALLER_REPLIES if features.caller_messages else ""))
    if checked:
        sections.append(after_done(replies=replies))
    return "\n\n".join(sections) + "\n"


def compose_agents_md(
    consumer_instructions: str, *, documentation: str, resume_section: str | None = None
) -> str:
    """A whole AGENTS.md: the task, how to be followed, and what to do when resumed."""
    sections = (consumer_instructions, documentation, resume_section or "")
    return "\n\n".join(section.strip("\n") for section in sections if section.strip()) + "\n"


def _log(features: ProtocolFeatures, logdir: str | None) -> str:
    rows = [row for row in KEYWORDS if row.enabled(features)]
    entries = "\n".join(
        f"- `{row.grammar}`: {row.teaches}. Example: `{next(iter(row.examples))}`" for row in rows
    )
    where, log = _PASTED, "./optio.log"
    if logdir is not None:
        where, log = _KNOWN.format(log=f"{logdir}/optio.log"), shlex.quote(f"{logdir}/optio.log")
        entries = entries.replace("./deliverables/", f"{logdir}/deliverables/")
        entries = entries.replace(" or starts from the directory you were started in", "")
    return _LOG.format(where=where, entries=entries, example=next(iter(rows[0].examples)), log=log)


def _deliverables(logdir: str | None) -> str:
    if logdir is None:
        there = " in the directory you were started in (`$OPTIO_DELIVERABLES`, if set)"
        return _DELIVERABLES.format(directory="./deliverables/", there=there)
    there = ", which is there already"
    return _DELIVERABLES.format(directory=f"{logdir}/deliverables/", there=there)


LOG_CHANNEL_PROMPT = build_log_channel_prompt()
