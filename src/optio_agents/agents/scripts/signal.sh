# DIR TAG NAME [PROCESS]: send a signal to the process group of the agent.
# shellcheck shell=sh disable=SC2154
enter "$1" "$2"
# shellcheck disable=SC2086 # the words
at_work ${4-} || refuse closed "the agent has ended"
# shellcheck disable=SC2086 # the fields
set -- "$3" ${stat##*) }
kill "-$1" "-$4" # the only form that dash and busybox both take for a group
