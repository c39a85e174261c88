"""What all suites share."""

pytest_plugins = ["tests.accounts", "tests.leaks", "tests.sshd"]
