# DIR TAG: the end of the agent's standard error.
# shellcheck shell=sh
enter "$1" "$2"
! plain stderr || tail -c 4096 stderr
