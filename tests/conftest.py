"""What all suites share."""

import signal

from tests.components import needs

__all__ = ["needs"]

# A job in the background of a script ignores these, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

pytest_plugins = [
    "tests.timeouts",
    "tests.own_home",
    "tests.sweeping",
    "tests.accounts",
    "tests.chance",
    "tests.disks",
    "tests.fuzzing",
    "tests.leaks",
    "tests.sshd",
    "tests.hosts",
    "tests.sessions",
    "tests.supervising",
    "tests.terminal",
]
