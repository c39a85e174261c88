# place FILE: make it, empty and for this user alone.
umask 077
set -C # it is new, and no link
mkdir -p "${1%/*}" && : >"$1"
