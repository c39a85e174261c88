# run.sh TOKEN DIR INPUT ERRORS COMMAND: run COMMAND in DIR.
# INPUT is keep or none, ERRORS apart or merged. When DIR cannot be entered, TOKEN on stderr says so.
# shellcheck shell=sh
CDPATH='' cd -- "$2" 2>/dev/null || {
    printf '%s' "$1" >&2
    exit 125
}
[ "$3" = keep ] || exec </dev/null
[ "$4" = apart ] || exec 2>&1
shift 4
eval "shift
$1"
