"""The moment between dialling and logging in: judge the host key, and say why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio.to_thread
import asyncssh
from asyncssh.public_key import get_default_certificate_algs, get_default_public_key_algs

from optio_agents.errors import HostKeyRefused

from .ssh_known_hosts import Known, KnownHosts, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .ssh_config import SSHConfig
    from .ssh_route import Route


class Door(asyncssh.SSHClient):
    """Judges the host key, and tells when the connection has ended."""

    def __init__(
        self, config: SSHConfig, way: Route, lost: Callable[[Exception | None], None]
    ) -> None:
        self.refusal: HostKeyRefused | None = None
        self.opened = False  # it has a transport
        self.abandoned = False  # before it was anybody's
        self._policy, self._way, self._lost = config.host_key_policy, way, lost
        self._files = KnownHosts(way.known_hosts)
        self._known = Known()

    async def host_key_options(self) -> dict[str, Any]:
        if self._policy == "insecure":
            return {"known_hosts": None}
        self._known = await anyio.to_thread.run_sync(
            self._files.look_up, self._way.key_host, "", self._way.port
        )
        options: dict[str, Any] = {"known_hosts": self._look_up}
        if not self._way.options.config.get("HostKeyAlgorithms"):
            # The kinds we know first, then all others: a server whose key is now of another
            # kind is to be seen as changed, not as one that speaks no SSH.
            kinds = [kind for key in self._known.trusted for kind in key.sig_algorithms]
            certified = get_default_certificate_algs() if self._known.usable_authorities else []
            ordered = dict.fromkeys([*certified, *kinds, *get_default_public_key_algs()])
            options["server_host_key_algs"] = [kind.decode() for kind in ordered]
        return options

    def _look_up(self, host: str, addr: str, port: int | None) -> tuple[object, ...]:
        self._known = known = self._files.look_up(host, addr, port or 22)
        # A revoked plain key is simply not trusted: so it comes before our eyes below.
        revoked = known.revoked if known.usable_authorities else ()
        return list(known.trusted), list(known.usable_authorities), list(revoked), [], [], [], []

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self.opened = True

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Called for every key that is not trusted already."""
        known, name = self._known, self._way.name
        files = " or ".join(self._way.known_hosts) or "any file"
        if key in known.revoked:
            self._refuse("revoked", key, (), f"{name} shows a host key that {files} has revoked")
        elif known.keys:
            self._refuse("changed", key, known.keys, _changed(name, self._way))
        elif self._policy == "accept-new":
            return self._accept(key)
        else:
            self._refuse("unknown", key, (), _unknown(name, files))
        return False

    def _accept(self, key: asyncssh.SSHKey) -> bool:
        way = self._way
        try:
            if way.known_hosts and self._files.add(way.key_host, way.port, key):
                return True
            self._refuse("changed", key, (), _changed(way.name, way))
        except OSError as error:
            self._refuse("unknown", key, (), f"{way.name}: its new key could not be kept: {error}")
        return False

    def _refuse(
        self, reason: str, key: asyncssh.SSHKey, known: Iterable[asyncssh.SSHKey], message: str
    ) -> None:
        seen, listed = fingerprint(key), ", ".join(sorted(map(fingerprint, known)))
        facts = f"seen {seen}" + (f", known {listed}" if listed else "")
        self.refusal = HostKeyRefused(
            f"{message} ({facts})", reason=reason, seen=seen, known=listed
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.abandoned:
            self._lost(exc)


def _changed(name: str, way: Route) -> str:
    listed = way.key_host if way.port == 22 else f"[{way.key_host}]:{way.port}"
    return (
        f"the host key of {name} has changed: somebody may be listening in. If you know why it "
        f"did, forget the old one: ssh-keygen -R '{listed}' -f {way.known_hosts[0]}"
    )


def _unknown(name: str, files: str) -> str:
    return (
        f"the host key of {name} is not in {files}: compare it with the server's own, and connect "
        "once with ssh, or ask for the host-key policy accept-new"
    )
