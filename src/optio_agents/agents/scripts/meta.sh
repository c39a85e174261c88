# DIR: what the session says of itself.
# shellcheck shell=sh disable=SC2154
enter "$1"
private || refuse foreign "others may write to $1: chmod 700 it"
[ -e meta ] || [ -L meta ] || refuse missing "no session was prepared in $1"
sound || refuse foreign "the files of $1 are not as they were made: too large, or no files"
cat meta
