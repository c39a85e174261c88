"""Which host keys are trusted: the user's known_hosts files, read and grown as OpenSSH does."""

from __future__ import annotations

import base64
import fcntl
import hmac
import logging
import os
import secrets
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


_log = logging.getLogger(__name__)
_SSH_PORT = 22
_LOCK_TRIES, _LOCK_PAUSE = 100, 0.005  # seconds; another one's write takes far less


@dataclass(frozen=True, slots=True)
class Known:
    """What the files say about one host."""

    keys: frozenset[asyncssh.SSHKey] = frozenset()  # listed for this host and port
    portless: frozenset[asyncssh.SSHKey] = frozenset()  # for the host alone: trusted, too
    authorities: frozenset[asyncssh.SSHKey] = frozenset()
    revoked: frozenset[asyncssh.SSHKey] = frozenset()

    @property
    def trusted(self) -> frozenset[asyncssh.SSHKey]:
        return (self.keys | self.portless) - self.revoked

    @property
    def usable_authorities(self) -> frozenset[asyncssh.SSHKey]:
        return self.authorities - self.revoked


@dataclass(slots=True)
class KnownHosts:
    """known_hosts files; the first is the one that grows."""

    paths: Sequence[str]
    _entries: asyncssh.SSHKnownHosts = field(default_factory=asyncssh.SSHKnownHosts, init=False)
    _revoked: asyncssh.SSHKnownHosts = field(default_factory=asyncssh.SSHKnownHosts, init=False)

    def look_up(self, host: str, addr: str, port: int) -> Known:
        """Read the files, and find *host*."""
        self._load()
        host, mark = host.lower(), _mark(host, port)
        exact, _authorities = self._match(self._entries, mark)
        plain, authorities = self._match(self._entries, host)
        revoked = [
            key
            for name, address in ((mark, ""), (host, ""), (host, addr))
            for key in self._match(self._revoked, name, address)[0]
        ]
        portless = plain if port != _SSH_PORT else []
        return Known(
            frozenset(exact),
            frozenset(portless),
            frozenset(_authorities) | frozenset(authorities),
            frozenset(revoked),
        )

    def add(self, host: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Append *key* for a host that has none yet; False if another came first. Raises OSError.

        One write, under a lock, hashed where the file is.
        """
        path = Path(self.paths[0])
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with _lock(fd):
                known = self.look_up(host, "", port)
                if known.keys or key in known.revoked:
                    return key in known.trusted
                os.write(fd, _line(fd, _mark(host, port), key))
        finally:
            os.close(fd)
        return True

    def _load(self) -> None:
        self._entries, self._revoked = asyncssh.SSHKnownHosts(), asyncssh.SSHKnownHosts()
        for path in self.paths:
            with suppress(FileNotFoundError, NotADirectoryError):
                for line in Path(path).read_text("utf-8", "surrogateescape").splitlines():
                    self._load_line(line.strip(), path)

    def _load_line(self, line: str, path: str) -> None:
        marker, _, rest = line.partition(" ")
        into = self._revoked if marker == "@revoked" else self._entries
        try:  # one by one: asyncssh refuses a whole file for one bad line
            into.load(rest.lstrip() if marker == "@revoked" else line)
        except ValueError:
            _log.warning("%s: a line that is no known_hosts entry was passed over", path)

    @staticmethod
    def _match(
        entries: asyncssh.SSHKnownHosts, name: str, addr: str = ""
    ) -> tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey]]:
        # Never with a port: asyncssh would then fall back to the name alone, and forget
        # what it found as revoked on the way.
        keys, authorities, *_ = entries.match(name, addr, None)
        return list(keys), list(authorities)


def fingerprint(key: asyncssh.SSHKey) -> str:
    return f"{key.get_algorithm()} {key.get_fingerprint()}"


def _mark(host: str, port: int) -> str:
    host = host.lower()
    return host if port == _SSH_PORT else f"[{host}]:{port}"


def _line(fd: int, name: str, key: asyncssh.SSHKey) -> bytes:
    whole = os.pread(fd, os.fstat(fd).st_size, 0)
    if any(line.startswith(b"|1|") for line in whole.splitlines()):
        salt = secrets.token_bytes(20)
        hashed = hmac.digest(salt, name.encode(), "sha1")
        name = f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(hashed).decode()}"
    gap = b"\n" if whole and not whole.endswith(b"\n") else b""
    words = key.export_public_key().split()
    return gap + name.encode() + b" " + b" ".join(words[:2]) + b"\n"


@contextmanager
def _lock(fd: int) -> Iterator[None]:
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE)
    else:
        raise TimeoutError("known_hosts stays locked by another process")
    yield  # closing the descriptor unlocks
