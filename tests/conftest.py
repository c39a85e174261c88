"""What all suites share."""

from tests.components import needs

__all__ = ["needs"]

pytest_plugins = ["tests.accounts", "tests.chance", "tests.leaks", "tests.sshd", "tests.hosts"]
