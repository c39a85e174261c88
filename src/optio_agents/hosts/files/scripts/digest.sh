# FILE SIZE: says the SHA-256 of a regular file that has SIZE bytes (- for any), nothing of others.
# shellcheck shell=sh
[ -f "$1" ] && [ -r "$1" ] || exit 0
[ "$2" = - ] || [ $(($(wc -c <"$1"))) -eq "$2" ] || exit 0
seen=$(sha256sum <"$1" 2>/dev/null || shasum -a 256 <"$1") || exit
printf %s "${seen%% *}"
