# DIR TAG DIRECTORY…: the names of all that stands in these, one a line.
# shellcheck shell=sh
enter "$1" "$2"
shift 2
for directory; do ls "$directory"; done
