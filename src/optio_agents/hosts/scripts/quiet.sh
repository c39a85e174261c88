# quiet.sh DIR: seconds since anything in the log or deliverables/ of DIR changed, by its own clock.
# shellcheck shell=sh
CDPATH='' cd -- "$1" || exit
if stat -c %Y . >/dev/null 2>&1; then set -- -c %Y; else set -- -f %m; fi
last=$(find optio.log deliverables -exec stat "$@" {} + 2>/dev/null | sort -n | tail -n 1)
echo $(($(date +%s) - ${last:-0}))
