# WORKDIR PATTERNS NAME...: a compressed tar of NAME... in WORKDIR; PATTERNS, one a line, stay out.
# shellcheck shell=sh
CDPATH='' cd -- "$1" || exit
patterns=$2
shift 2
names=$#
while IFS= read -r pattern; do
    [ -z "$pattern" ] || set -- "$@" "--exclude=$pattern"
done <<END
$patterns
END
while [ "$names" -gt 0 ]; do # to the end, behind the options
    names=$((names - 1))
    name=$1
    shift
    set -- "$@" "$name"
done
exec 3>&1
said=$(
    tar -czf - "$@" 2>&1 >&3 3>&-
    echo $?
)
code=${said##*[!0-9]}
[ "$code" -ne 1 ] || exit 0 # a file changed while it was read: such is life in a work directory
[ "$code" -eq 0 ] || printf %s "$said" | tail -c 1000 >&2
exit "$code"
