"""The values of an agent's credentials, for who supervises it after the one who started it.

Whoever records what an agent says has to know these values, to hide them, also after a detached
agent has ended and nobody has its environment any more. Yet they are to lie nowhere: neither in our
journal nor on the host. So the host's meta keeps them sealed, our journal keeps the key, and the
key is forgotten when the session is over. Without the key (the journal was lost, or an agent that
0.3.2 has started) the agent's own environment tells, as long as it runs.
"""

from __future__ import annotations

import json
import secrets
import shlex
from hashlib import shake_256
from typing import TYPE_CHECKING, Any

from optio_agents.errors import FileRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optio_agents.agents import Agent
    from optio_agents.hosts.host import Host
    from optio_agents.store.records import SessionRecords


_KIND = "key"  # of the note
_LAUNCH = 16 << 20  # bytes

SEALED = "sealed"
"""Where in the meta of a session on its host they are."""


_SPEC = "="  # no variable has such a name


async def seal(
    values: Mapping[str, str], records: SessionRecords, *, spec: Sequence[Any] | None = None
) -> str:
    """*values*, and of what is to be started again its *spec*; only the journal can tell them."""
    if spec is not None:
        values = {**values, _SPEC: json.dumps(spec)}
    if not values:
        return ""
    key = secrets.token_hex(32)
    await records.note(_KIND, "", key)
    return _mixed(json.dumps(dict(values)).encode(), key).hex()


async def forget_key(records: SessionRecords) -> None:
    """Nobody needs to know them any more."""
    if await records.noted(_KIND):
        await records.note(_KIND, "", None)


async def spec_of(agent: Agent, records: SessionRecords) -> list[Any] | None:
    """What *agent* was started as, where that was sealed and can be known."""
    try:
        spec = json.loads((await _unsealed(agent, records)).get(_SPEC, "null"))
    except ValueError:
        return None
    return spec if isinstance(spec, list) else None


async def credentials_of(
    host: Host, agent: Agent, names: Sequence[str], records: SessionRecords
) -> dict[str, str]:
    """The values of *names* that *agent* was started with, as far as they can be known."""
    if not names:
        return {}
    known = await _unsealed(agent, records)
    if not known.keys() >= set(names):
        known = {**known, **await _on_the_host(host, agent)}
    return {name: known[name] for name in names if name in known}


async def _unsealed(agent: Agent, records: SessionRecords) -> dict[str, str]:
    if not (key := await records.noted(_KIND)):
        return {}
    try:
        values: Any = json.loads(_mixed(bytes.fromhex(str(agent.meta.get(SEALED))), key))
    except ValueError:  # the agent can write there, too
        return {}
    return {name: str(value) for name, value in values.items()} if isinstance(values, dict) else {}


def _mixed(data: bytes, key: str) -> bytes:
    """*data* under a key stream that is used once; the same again gives it back."""
    stream = shake_256(bytes.fromhex(key)).digest(len(data))
    return bytes(one ^ other for one, other in zip(data, stream, strict=True))


async def _on_the_host(host: Host, agent: Agent) -> dict[str, str]:
    try:
        text = await host.fetch_bytes_from_host(f"{agent.directory}/launch", max_bytes=_LAUNCH)
        words = shlex.split(text.decode("utf-8", "surrogateescape"))
    except FileRefused:
        pid = str(agent.process.pid) if agent.process else ""
        answer = await host.ask('cat "/proc/$1/environ"', pid)
        words = answer.stdout.decode("utf-8", "surrogateescape").split("\0")
        if f"OPTIO_SESSION={agent.session}" not in words:  # it has ended, and another has its pid
            return {}
    except ValueError:
        return {}
    pairs = (word.partition("=") for word in words)
    return {name: value for name, equals, value in pairs if equals}
