"""`team run`, `serve`, `tree`, `cancel` and `sit`: teams of a Python file, and their people.

Read `run` (a file's team at work in this process), `sit` (a person answers), then `views`.
"""

from __future__ import annotations

import click

from .run import run, serve
from .sit import sit
from .stored import cancel, tree

__all__ = ["sit", "team"]


@click.group(epilog="Example:  optio-agents team run crew.py writer 'A haiku'")
def team() -> None:
    """Work with the team of a Python file: agents, models, people and functions."""


for verb in run, serve, tree, cancel:
    team.add_command(verb)
