# DIR: what the session says of itself.
# shellcheck shell=sh disable=SC2154
enter "$1"
private || refuse "$foreign" "others may write to $1: chmod 700 it"
cat meta 2>/dev/null || refuse "$missing" "no session was prepared in $1"
