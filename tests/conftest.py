"""What all suites share."""

from tests.components import needs

__all__ = ["needs"]

pytest_plugins = [
    "tests.own_home",
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
