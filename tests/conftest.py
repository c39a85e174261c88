"""What all suites share."""

import signal

from tests.support.components import needs

__all__ = ["needs"]

# A job in the background of a script ignores these, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

pytest_plugins = [
    "tests.support.timeouts",
    "tests.support.own_home",
    "tests.support.sweeping",
    "tests.support.hosts.accounts",
    "tests.support.chance",
    "tests.support.hosts.disks",
    "tests.support.fuzzing",
    "tests.support.leaks",
    "tests.support.hosts.sshd",
    "tests.support.hosts.hosts",
    "tests.support.sessions.sessions",
    "tests.support.sessions.supervising",
    "tests.support.terminal",
]
