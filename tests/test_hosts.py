"""The contract of a host: the same tests here and over a real sshd, one account per shell."""

from __future__ import annotations

import anyio
import pytest

from optio_agents.errors import CommandTimedOut, FileRefused
from tests.hosts import Ground, every_kind

NASTY = "a'b\"c $HOME `id` \\ ; * \n\ttab ü\x01 !x"


@every_kind
async def test_a_command_runs_in_the_work_directory_and_says_how_it_ended(ground: Ground) -> None:
    async with ground.ready() as host:
        command = 'pwd; printf %s "$NASTY"; echo "it warns" >&2; exit 3'
        result = await host.run_command(command, env={"NASTY": NASTY})
        assert result.stdout == f"{host.workdir}\n{NASTY}"
        assert result.stderr == "it warns\n"
        assert result.exit_code == 3
