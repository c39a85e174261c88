# TOKEN DIR INPUT ERRORS COMMAND: run COMMAND in DIR; TOKEN on stdout says that DIR was entered.
# INPUT is keep or none, ERRORS apart or merged.
# shellcheck shell=sh
CDPATH='' cd -- "$2" 2>/dev/null || exit
printf %s "$1"
[ "$3" = keep ] || exec </dev/null
[ "$4" = apart ] || exec 2>&1
shift 4
eval "shift
$1"
