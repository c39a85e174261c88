# DIR PATTERN: the deliverables in DIR whose paths are so, byte by byte, a NUL behind each; of too
# many, some.
# shellcheck shell=sh
cd "$1" 2>/dev/null || exit 0
LC_ALL=C find deliverables -path "$2" -type f -print0 2>/dev/null | head -c 100000
