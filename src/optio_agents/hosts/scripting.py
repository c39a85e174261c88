"""Carry a script to a machine, and read its whole answer."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from optio_agents.concurrency import task_group
from optio_agents.errors import (
    AlreadyOwned,
    CommandFailed,
    FileRefused,
    HostError,
    HostLost,
    InputClosed,
    NameTaken,
    TransferFailed,
    WorkDirRefused,
)

from .machine import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from optio_agents.errors import OptioAgentsError

    from .machine import Process


# Script, arguments and environment come across any login shell byte for byte.
#
# One constant crosses the login shell. All else follows on its standard input, read by exact
# length, so that nothing of it stands in a command line and the script's own input stays whole.


RUN = "OPTIO_RUN"  # the environment name by which a script's whole tree is found again
END = "#end"  # a payload that was cut short does not end so, and is not run

# No single quote, backslash, exclamation mark or newline: one quoted word to every shell.
LOADER = (
    "read -r n && "
    "s=$(dd bs=$n count=1 iflag=fullblock 2>/dev/null || dd bs=1 count=$n 2>/dev/null) && "
    '[ "${s##*#}" = end ] || exit 126; eval "$s"'
)
COMMAND = f"exec /bin/sh -c '{LOADER}'"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_BEGIN = """\
IFS= read -r s 2>/dev/null </proc/$$/stat; set -- ${{s##*) }}
printf '\\n%s %s %s\\n' {mark} $$ "${{20:-0}}"; printf '\\n%s\\n' {mark} >&2
"""


@cache
def script(*names: str) -> str:
    """The text of shell scripts of ours, one behind the other, by room and name: "hosts/run"."""
    texts = list[str]()
    for whole in names:
        room, _, name = whole.rpartition("/")
        path = files("optio_agents") / room / "scripts" / f"{name}.sh"
        texts.append(path.read_text("utf-8"))
    return "\n".join(texts)


def new_mark() -> str:
    """A word that no shell profile says by chance."""
    return secrets.token_hex(12)


def quote(text: str) -> str:
    """*text* as one word of POSIX sh."""
    return "'" + text.replace("'", "'\\''") + "'"


def payload(
    text: str,
    args: Sequence[str] = (),
    *,
    env: Mapping[str, str] | None = None,
    mark: str = "",
) -> bytes:
    """Shell text that sets "$@" and *env*, says *mark* with its pid and start, and runs *text*.

    It stands behind its length, as the loader reads it.
    """
    lines = [_BEGIN.format(mark=mark)] if mark else []
    for name, value in (env or {}).items():
        lines.append(f"export {variable(name)}={quote(value)}\n")
    lines += [" ".join(["set --", *map(quote, args)]), "\nunset n s\n", text, f"\n{END}"]
    whole = "".join(lines).encode("utf-8", "surrogateescape")
    if b"\0" in whole:
        raise ValueError("a script, its arguments and its environment cannot hold NUL")
    return b"%d\n%s" % (len(whole), whole)


def os_bytes(text: str) -> bytes:
    """*text* as file names are encoded: bytes that are no UTF-8 come through as they were."""
    return text.encode("utf-8", "surrogateescape")


def is_variable(name: str) -> bool:
    """Whether a shell can export a variable of this *name*; bash itself exports more than that."""
    return _VARIABLE.fullmatch(name) is not None


def variable(name: str) -> str:
    """*name*, if it is one. Raises ValueError."""
    if not is_variable(name):
        raise ValueError(f"{name!r} cannot be the name of an environment variable")
    return name


LONGEST = 1 << 20  # bytes that an answer may have, and its stderr as well


async def collect(process: Process, data: bytes = b"") -> Answer:
    """Give *process* all of *data*, and take what it says until it ends. Raises HostLost."""
    stderr = bytearray()

    async def drain() -> None:
        with suppress(HostLost):  # the reader of stdout meets it, too
            await _read_all(process.read_error, stderr)

    stdout = bytearray()
    async with task_group() as tasks:
        tasks.start_soon(drain)
        with suppress(BrokenPipeError):  # it did not want to read all: its exit code tells
            await process.write(data)
        await process.close_input()
        await _read_all(process.read, stdout)
    return Answer(await process.wait(), bytes(stdout), bytes(stderr))


async def _read_all(read: Callable[[], Awaitable[bytes]], into: bytearray) -> None:
    while data := await read():
        into += data
        if len(into) > LONGEST:
            raise HostError(f"an answer is longer than {LONGEST} bytes")


LEAVES = 3  # how below.sh ends for a directory that is elsewhere
REFUSED = 64  # how a script ends that refused, with a line "REASON SENTENCE" on its stderr
_REFUSAL = re.compile(
    r"^(missing|directory|special|outside|linked|too-large|unreadable|changed|inline|cut|taken|"
    r"closed|unwritten|foreign|stale) (.*)\Z",
    re.MULTILINE | re.DOTALL,
)


def refusal(answer: Answer, path: str, name: str) -> OptioAgentsError:
    """Why the script *name* refused to do something about *path*, as an error.

    What a script did not foresee is a CommandFailed.
    """
    words = answer.stderr.decode(errors="replace").strip()
    found = _REFUSAL.search(words) if answer.exit_code == REFUSED else None
    if found is None:
        stdout = answer.stdout.decode(errors="replace")
        return CommandFailed(name, answer.exit_code, stdout, words)
    reason, sentence = found.groups()
    match reason:
        case "cut":
            return HostLost(sentence)
        case "taken":
            return NameTaken(sentence)
        case "closed":
            return InputClosed(sentence)
        case "stale":
            return AlreadyOwned(sentence, owner="another")
        case "foreign":
            return WorkDirRefused(sentence)
        case "unwritten":  # what a tool said of it stands in front
            tool = words[: found.start()].strip().replace("\n", ": ")
            return TransferFailed(f"{sentence}: {tool}" if tool else sentence)
        case _:
            return FileRefused(path, reason, sentence)
