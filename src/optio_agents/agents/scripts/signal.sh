# DIR TAG NAME WHOM [PROCESS]: send a signal to the agent, or to its process "group".
# shellcheck shell=sh disable=SC2154
enter "$1" "$2"
# shellcheck disable=SC2086 # the words
at_work ${5-} || refuse closed "the agent has ended"
# shellcheck disable=SC2086 # the fields
set -- "$3" "$4" "$pid" ${stat##*) }
# The only form that dash and busybox both take for a group.
if [ "$2" = group ]; then kill "-$1" "-$6"; else kill "-$1" "$3"; fi
