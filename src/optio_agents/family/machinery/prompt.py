"""The whole instructions file of an agent, from one place; a profile says what differs.

What teaches the log channel comes from the table that the parser reads (`optio_agents.protocol`).
Around it stand, where they apply: the agent's own preamble, what survives a resume and how to tell
one, how to reach the person, the frame around the task, the task itself, files for download, and
the directories that may be touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optio_agents.context import SYSTEM_MESSAGE_PREFIX
from optio_agents.protocol import RESUME_NOTICE, get_protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optio_agents.protocol import BrowserMode

REGENERABLE_LIST = "regenerable.txt"  # in the work directory, by the agent
DEFAULT_CONVERSATION_INSTRUCTIONS = "Talk with the user, and help with what they ask for."
_CAPTURED = 100 << 20  # bytes of a work directory from which on that list counts


@dataclass(frozen=True)
class AgentPromptProfile:
    """What differs between agents."""

    instructions_file: str = "AGENTS.md"  # what it reads by itself
    state_dir: str | None = None  # where it keeps its history, in the work directory
    state_dir_contents: str = ""  # what that is, in words
    preamble: str = ""  # in front of all else
    browser: BrowserMode = "redirect"
    delivery_section: str = ""  # how its words reach a person, as Markdown
    todo_tool: str | None = None  # its list of things to do


_INTRO = """\
# Working under a harness

A program, the harness, follows this session, and people see what it sees. What this file asks for \
holds for the whole session.

"""

_TASK = """\
## Task

What you are to do comes next. Tell how it goes while you work, here and, where a log channel is \
described above, in `STATUS:` entries. A person is there, who works on the same task and wants it \
to succeed: feel free to ask questions and dialogue with the human."""

BASE_PROMPT_POST = f"{_TASK}\n\n"

_TODO = """ \
Keep a list of things to do with {tool}, also when you find the steps out one by one: it is shown \
to the person as your progress. What did not work is completed, too, with `(failed)` at its end. \
Where an item has room for a description, say there what you are going to do, or what came of it."""

_SYSTEM = f"""\
(Messages on your input channel that begin with `{SYSTEM_MESSAGE_PREFIX.strip()}` originate from \
the harness of this session, not from a person.)

"""

_RESUMES = """\
## Resumes

This session may be stopped at any point and continued later, also on another machine, and you \
will not notice: your memory of it is whole. What stood outside of the work directory (this \
directory) may be gone: running programs, files in `/tmp`, logins of other programs.

- The work directory comes back. {excluded}
{state}\
- What is large and need not come back is best kept outside of the work directory, in `/tmp` for \
instance{inside}. Be ready to find it gone.
- **List in `./{regenerable}` what is large in the work directory and can be made again at once \
and completely**: installed dependencies, build outputs, caches, downloads. A path a line, from \
the work directory on, without wildcards; a remark may follow behind ` # `. When the work \
directory is over {limit} these paths are not kept. Never list work that could not be made again.

### Detecting a resume: `resume.log`

Each start of the session adds a line to `./resume.log`: the time, and `REFRESHED:` with the names \
of files that the harness has written anew, if there are any, such as \
`2026-05-28T13:15:42Z REFRESHED:{file}`. The first line is the original start, each further one a \
resume.

{detect}:

- What you remember of such files counts no more: read each of them again (`cat ./{file}`).
- Check that what you need outside of the work directory is still there (programs, files, logins), \
and set it up again where it is not.
- Make again what `./{regenerable}` lists and is missing.
- Then go on where you were.

A tool that fails for no visible reason may be the sign of a resume that you missed.

"""

_POLL = """\
**At the start of every new incoming user message, read the last line of `./resume.log`.** A \
message that begins with `System:` may tell you of a resume, too. If the line is a new one, you \
have been resumed"""

_NOTICE = f"""\
After each resume a `{SYSTEM_MESSAGE_PREFIX}{RESUME_NOTICE}` message on your input channel says \
so; you do not need to check `./resume.log` before each message. When it says so, \
read the last line of `./resume.log`"""

_DOWNLOADS = """

## Downloadable files

{difference}When the person asks for a file, write it into the work directory and offer it with a \
Markdown link, `[name](optio-file:path)`, its path from the work directory on: a click downloads it.
"""

_DIFFERENCE = """\
A deliverable goes to the harness. **A file for download goes to the person**; make one only when \
asked to. """

_SANDBOX = """

**Filesystem access:** this session can touch only these directories and what is below them: \
{dirs}. Everything else ends with a permission error.
"""


def compose_instructions_file(
    consumer_instructions: str,
    *,
    profile: AgentPromptProfile,
    workdir_exclude: Sequence[str],
    documentation: str | None = None,
    supports_resume: bool = True,
    host_protocol: bool = True,
    omit_task_framing: bool = False,
    fs_isolation_dirs: Sequence[tuple[str, str]] | None = None,
    file_download: bool = False,
    check_resume_log_every_message: bool = True,
    capture_max_bytes: int | None = None,
) -> str:
    """What the agent of *profile* is to read before it begins; the task is in it as it was given.

    *documentation* is that of the session's own protocol; without *host_protocol* there is no log
    channel, and it is left out.
    """
    sections = [profile.preamble]
    if host_protocol:
        if documentation is None:
            documentation = get_protocol(browser=profile.browser).documentation
        sections += [_INTRO, documentation.rstrip("\n"), "\n\n"]
    if supports_resume:
        sections.append(
            render_resume_section(
                profile,
                workdir_exclude,
                check_resume_log_every_message,
                capture_max_bytes=capture_max_bytes,
            )
        )
    if not host_protocol:
        sections.append(_SYSTEM)
    if profile.delivery_section:
        sections += [profile.delivery_section.rstrip("\n"), "\n\n"]
    if not omit_task_framing and profile.todo_tool:
        sections += [_TASK, _TODO.format(tool=_named(profile.todo_tool)), "\n\n"]
    elif not omit_task_framing:
        sections.append(BASE_PROMPT_POST)
    sections += [consumer_instructions.rstrip("\n"), "\n"]
    if file_download:
        sections.append(downloadables_block(host_protocol))
    if fs_isolation_dirs:
        dirs = ", ".join(
            f"`{path}`" + ("" if "w" in mode else " (read-only)")
            for path, mode in fs_isolation_dirs
        )
        sections.append(_SANDBOX.format(dirs=dirs))
    return "".join(sections)


def render_resume_section(
    profile: AgentPromptProfile,
    workdir_exclude: Sequence[str],
    check_resume_log_every_message: bool = True,
    *,
    capture_max_bytes: int | None = None,
) -> str:
    """What survives a resume, and how the agent tells that there was one, as Markdown."""
    listed = ", ".join(f"`{pattern}`" for pattern in workdir_exclude)
    state = ""
    if profile.state_dir:
        what = f" ({profile.state_dir_contents})" if profile.state_dir_contents else ""
        state = (
            f"- **Your `{profile.state_dir}` directory{what} comes back**: your history is kept.\n"
        )
    return _RESUMES.format(
        excluded=f"Left out, also in it, is: {listed}." if listed else "**No paths are excluded.**",
        state=state,
        inside=", or inside an excluded subdirectory" if listed else "",
        regenerable=REGENERABLE_LIST,
        limit=f"{(capture_max_bytes or _CAPTURED) >> 20} MB",
        file=profile.instructions_file,
        detect=_POLL if check_resume_log_every_message else _NOTICE,
    )


def downloadables_block(comparative: bool) -> str:
    """How the agent offers a file to a person; *comparative*, beside the deliverables it knows."""
    return _DOWNLOADS.format(difference=_DIFFERENCE if comparative else "")


def _named(tool: str) -> str:
    """A profile gives the name of a tool, or words around names."""
    return tool if " " in tool else f"the `{tool}` tool"
