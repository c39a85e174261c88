# DIR TAG: the name of every message that was ever said, one a line.
# shellcheck shell=sh
enter "$1" "$2"
ls in
ls said
