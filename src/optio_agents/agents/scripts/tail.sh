# DIR TAG NAME SIZE: the last SIZE bytes of a file of the session.
# shellcheck shell=sh disable=SC2154
enter "$1" "$2"
! plain "$3" || tail -c "$4" "$3"
