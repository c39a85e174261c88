"""asyncssh's and the system's words for why there is no connection, said once in ours."""

from __future__ import annotations

import errno
import socket

import asyncssh

from optio_agents.display import visible
from optio_agents.errors import (
    ConnectError,
    LoginRefused,
    PortClosed,
    ServerSilent,
    UnknownHostName,
)

_UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}


class ClosedEarly(ConnectError):
    """The server hung up before the login: too busy for the moment, or done with us."""


def translate(error: Exception, name: str) -> ConnectError:
    """Why *name* could not be connected to, and what its user can do."""
    match error:
        case ConnectError():
            return error
        case asyncssh.KeyImportError() | asyncssh.KeyEncryptionError():
            return LoginRefused(f"{name}: the key cannot be used: {error}")
        case asyncssh.ConfigParseError():
            return ConnectError(f"{name}: your ssh configuration cannot be read: {error}")
        case asyncssh.Error():
            return _from_ssh(error, name)
        case UnicodeError():  # from the resolver: an empty or overlong label
            return UnknownHostName(f"the host name of {name} cannot be one: {error}")
        case OSError():
            return _from_system(error, name)
        case _:
            return ConnectError(f"{name}: {error}")


def _from_ssh(error: asyncssh.Error, name: str) -> ConnectError:
    said = visible(error.reason)  # the server's own words, perhaps
    match error:
        case asyncssh.PermissionDenied():
            return LoginRefused(
                f"{name} refused the login: try `ssh {name}`; is the key on the server, and, "
                "if it has a passphrase, in your ssh-agent (`ssh-add`)?"
            )
        case asyncssh.ConnectionLost() if "timeout" in error.reason:
            return ServerSilent(f"{name} does not answer: is that an SSH server?")
        case asyncssh.KeyExchangeFailed() | asyncssh.ProtocolNotSupported():
            return ConnectError(f"{name} speaks no SSH that we do: {said}")
        case asyncssh.DisconnectError():
            return ClosedEarly(f"{name} closed the connection before the login: {said}")
        case asyncssh.ChannelOpenError():
            return ConnectError(f"the jump host cannot reach {name}: {said}")
        case _:
            return ConnectError(f"{name}: {said}")


def _from_system(error: OSError, name: str) -> ConnectError:
    match error:
        case socket.gaierror():
            return UnknownHostName(f"the host name of {name} is not known: {error.strerror}")
        case ConnectionRefusedError():
            return PortClosed(f"nothing listens at {name}: is sshd running, the port right?")
        case ConnectionError():
            return ClosedEarly(f"{name} closed the connection before the login: {error}")
        case TimeoutError():
            return ServerSilent(f"{name} does not answer: is it up, and no firewall in between?")
        case _ if error.errno in _UNREACHABLE:
            return ConnectError(f"there is no way to {name}: {error.strerror}")
        case _:
            return ConnectError(f"{name}: {error}")
