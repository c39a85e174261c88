"""`python -m optio_agents.cli` is the command, too."""

from optio_agents.cli import main

main()
