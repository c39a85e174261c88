# DIR TAG: the requests that were answered, one name a line.
# shellcheck shell=sh
enter "$1" "$2"
ls answers
