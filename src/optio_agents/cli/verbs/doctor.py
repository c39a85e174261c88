"""`optio-agents doctor`: what would be in the way, and how to mend it."""

from __future__ import annotations

import platform
import posixpath
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import click

from optio_agents.cli import exits
from optio_agents.cli.exits import sentence
from optio_agents.cli.options import host_options, ssh_of
from optio_agents.cli.output import folded, telling_if_slow
from optio_agents.display import visible
from optio_agents.errors import ConnectError
from optio_agents.hosts.environment import credentials_in
from optio_agents.hosts.ssh.config import SSHConfig
from optio_agents.supervision.kinds.named import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_PATIENCE = 60.0  # seconds for all that is looked at on a host
_INSTANCES, _DESCRIPTORS, _FREE_KIB = 128, 1024, 1 << 20
# What OpenSSH obeys and we do not; the value is what to do instead.
_IGNORED = {
    "controlmaster": "connections are shared by us already",
    "controlpath": "connections are shared by us already",
    "stricthostkeychecking": "say --host-key accept-new or insecure",
    "forwardagent": "an agent never gets yours; name credentials with --env",
    "localforward": "use a tunnel of your own",
    "remoteforward": "use a tunnel of your own",
    "remotecommand": "agents are started by our own command",
    "requesttty": "agents have no terminal",
    "pkcs11provider": "load the key into ssh-agent",
    "gssapiauthentication": "log in with a key",
    "hashknownhosts": "a new key is hashed if the file's others are",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and how to mend it where it is not fine."""

    state: Literal["ok", "note", "bad"]
    words: str
    mend: str = ""
    unreachable: bool = False

    @property
    def code(self) -> int:
        """What it means for the exit code."""
        if self.unreachable:
            return exits.UNREACHABLE
        return exits.AGENT_ERROR if self.state == "bad" else exits.DONE


@click.command(epilog="Example:  optio-agents doctor me@box")
@click.argument("box", required=False, metavar="[USER@BOX]")
@host_options
def doctor(box: str | None, host: str | None, host_key: str) -> int:
    """Check this machine, or a host, for what supervising agents needs; exit 1 if it is lacking."""
    ssh = ssh_of(box or host or "", policy=host_key) if box or host else None
    code = exits.DONE
    for finding in _looked_at(ssh):
        click.echo(folded(f"{finding.state:<5} {visible(finding.words)}", indent=6))
        if finding.mend:
            click.echo(folded(f"      {visible(finding.mend)}", indent=6))
        code = max(code, finding.code)
    return code


def _looked_at(ssh: SSHConfig | None) -> Iterator[Finding]:
    yield Finding("ok", f"Python {platform.python_version()} on {platform.system()} supervises")
    if ssh is None and platform.system() != "Linux":
        yield Finding(
            "note",
            f"agents on {platform.system()} are best effort: there is no /proc",
            "run agents that matter on a Linux host, with --host",
        )
    if ssh is not None:
        yield from ignored_options(Path.home() / ".ssh" / "config")
    yield from anyio.run(_there, ssh)
    yield from anyio.run(_used, ssh)


def ignored_options(config: Path) -> Iterator[Finding]:
    """What stands in the user's ssh configuration and does nothing here."""
    try:
        lines = config.read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for number, line in enumerate(lines, 1):
        fields = line.replace("=", " ").split()
        if fields and (instead := _IGNORED.get(fields[0].lower())):
            yield Finding("note", f"{config}:{number}: {fields[0]} is ignored", instead)


async def _there(ssh: SSHConfig | None) -> list[Finding]:
    name = ssh.name if ssh else "this machine"
    try:
        with anyio.fail_after(_PATIENCE), telling_if_slow(f"waiting for {name} …"):
            facts = await _facts(ssh)
    except TimeoutError:
        late = f"{name} did not answer all questions within {_PATIENCE:.0f} s"
        return [Finding("bad", late, "try again when it has less to do", unreachable=True)]
    except ConnectError as error:
        return [Finding("bad", sentence(error), unreachable=True)]
    if ssh is None:
        reached = Finding("ok", f"{name} answers")
    elif ssh.host_key_policy == "insecure":
        reached = Finding("note", f"{name} answers, and nobody checked its host key")
    else:
        reached = Finding("ok", f"{name} answers, and its host key is known")
    return [reached, *judge(facts)]


async def _used(ssh: SSHConfig | None) -> list[Finding]:
    """How much of their accounts' allowances the agents there had used when they last said so."""
    from optio_agents.cli.screen.table import fullest
    from optio_agents.store import Store

    told = dict[str, tuple[float, str]]()
    async with Store() as store:
        last = await store.last_words()
        for session in await store.sessions():
            known = last.get(session.id)
            if known is None or session.host != (ssh.name if ssh else "local"):
                continue
            if (words := fullest(known.usage)) and known.usage_at is not None:
                program = posixpath.basename(session.facts.get("program") or "the agent")
                told[program] = max(told.get(program, (0.0, "")), (known.usage_at, words))
    found = []
    for program, (at, words) in told.items():
        when = time.strftime("on %Y-%m-%d at %H:%M", time.localtime(at))
        said = f"{program} has used {words} of its allowance, as it said {when}"
        found.append(Finding("ok", said))
    return found


async def _facts(ssh: SSHConfig | None) -> dict[str, list[str]]:
    """What the host says of itself, by name."""
    from optio_agents.agents.launch import widened
    from optio_agents.hosts.host import make_host
    from optio_agents.hosts.scripting import collect, script

    facts: dict[str, list[str]] = {}
    async with make_host(ssh, taskdir="~") as host:
        login = await host.machine.login_environment()
        # agents are looked for as a start does it
        where = {"OPTIO_SEARCHED": await widened(host.machine, login.get("PATH", ""))}
        async with host.machine.shell(script("cli/doctor"), env={**login, **where}) as process:
            said = (await collect(process)).stdout
    for line in said.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(" ")
        facts.setdefault(name, []).append(value)
    return facts | {"withheld": sorted(credentials_in(login))}


def judge(facts: Mapping[str, list[str]]) -> Iterator[Finding]:
    """What the facts of a host mean."""

    def first(name: str) -> str:
        return (facts.get(name) or [""])[0]

    yield Finding("ok", f"{first('system')}, login shell {first('shell')}")
    if first("proc") != "yes":
        yield Finding("bad", "there is no readable /proc", "run agents on a Linux host")
    if lacking := facts.get("missing"):
        mend = "install coreutils, awk and util-linux, or busybox"
        yield Finding("bad", f"these tools are missing: {', '.join(lacking)}", mend)
    else:
        yield Finding("ok", "all tools are there")
    yield from _languages(first("python3"), first("perl"))
    yield from _limits(facts)
    if unwritable := first("state_unwritable"):
        yield Finding(
            "bad", f"{unwritable} is not writable", "set XDG_STATE_HOME to a place of yours"
        )
    if first("kill_user_processes") == "yes":
        yield Finding(
            "bad",
            "systemd ends all your processes at logout (KillUserProcesses=yes)",
            "run `loginctl enable-linger`, or set KillUserProcesses=no in logind.conf",
        )
    if not first("download"):
        yield Finding("note", "neither curl, wget nor python3: no downloads", "install curl")
    yield from _claude(first("claude"), first("claude_login"))
    if others := facts.get("agent"):
        yield Finding("ok", f"other agents there: {', '.join(others)}")
    for name in facts.get("agent_out", ()):
        keys = " or ".join(f"--env {key}" for key in ROWS[name].keys) if name in ROWS else ""
        mend = f"run `{name}` there once and log in" + (
            f", or hand over a key: {keys}" if keys else ""
        )
        yield Finding("note", f"{name} is there, not logged in", mend)
    yield from _keys(facts)


def _keys(facts: Mapping[str, list[str]]) -> Iterator[Finding]:
    """Credentials that its user has there, and that no run passes on."""
    places = dict[str, set[str]]()
    for words in facts.get("profile_key", ()):
        name, _, file = words.partition(" ")
        places.setdefault(f"in {file}", set()).add(name)
    known = set[str]().union(*places.values())
    if others := set(facts.get("withheld", ())) - known:
        places["at login"] = others
    for where, names in places.items():
        yield Finding(
            "note",
            f"{', '.join(sorted(names))}: set {where}, and a run does not pass that on",
            "hand over your own by name (--env NAME) or from a file (--env-file), or log in there",
        )


def _languages(python: str, perl: str) -> Iterator[Finding]:
    version = re.match(r"([0-9]{1,4})\.([0-9]{1,4})(?![0-9])", python)
    if version and (int(version[1]), int(version[2])) >= (3, 7):
        yield Finding("ok", f"python3 {python}")
        return
    what = f"python3 {python} is too old" if python else "there is no python3"
    yield Finding("note", f"{what}: logs are followed by polling", "install python3 (3.7 or newer)")
    if not perl:
        yield Finding(
            "note",
            "neither python3 nor perl: a process that hides well may survive a stop",
            "install python3",
        )


def _limits(facts: Mapping[str, list[str]]) -> Iterator[Finding]:
    def number(name: str) -> int | None:
        value = (facts.get(name) or [""])[0]
        return int(value) if re.fullmatch(r"[0-9]{1,18}", value) else None

    instances, descriptors = number("inotify_instances"), number("descriptors")
    if instances is not None:
        mend = "sysctl fs.inotify.max_user_instances=512; until then, logs may be polled"
        yield _enough(instances, _INSTANCES, "inotify instances", mend)
    if descriptors is not None:
        yield _enough(descriptors, _DESCRIPTORS, "open files", "ulimit -n 4096")
    free = number("free_kib")
    if free is not None:
        words = f"{free / _FREE_KIB:.1f} GiB free for task directories"
        small = Finding("bad", words, "make room: journals of agents grow")
        yield small if free < _FREE_KIB else Finding("ok", words)


def _enough(found: int, wanted: int, what: str, mend: str) -> Finding:
    few = Finding("note", f"only {found} {what}", mend)
    return few if found < wanted else Finding("ok", f"{found} {what}")


def _claude(version: str, login: str) -> Iterator[Finding]:
    if not version:
        yield Finding("note", "claude is not installed", "npm install -g @anthropic-ai/claude-code")
    elif login == "none":
        yield Finding(
            "note",
            f"claude {version}, not logged in",
            "run `claude` there once and log in, or hand over a key: --env ANTHROPIC_API_KEY",
        )
    else:
        yield Finding("ok", f"claude {version}, logged in")
