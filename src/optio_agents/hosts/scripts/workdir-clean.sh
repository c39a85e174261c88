# workdir-clean.sh TASKDIR USERDIR [PROCESS TAG]: remove what setting up made, and of USERDIR, if it
# is not empty, nothing else. PROCESS and TAG: see refuse_while_alive.
# shellcheck shell=sh disable=SC2154 # workdir.sh comes first
refuse_while_alive "$1" "${2:-"$1/workdir"}/optio.log" "${3-}" "${4-}"
taken "$1" || exit 0
enter_taskdir "$1"
ours || refuse foreign "$1 was not made by optio-agents; it stays as it is"
if [ "$2" ] && [ -f claimed ]; then
    task=$(pwd -P && echo .) && task=${task%??}
    ( # what was handed over stays with the user
        CDPATH='' cd -P -- "$2" 2>/dev/null && [ "$(place)" = "$(cat "$task/claimed")" ] || exit 0
        [ -d optio.log ] || rm -f optio.log
        [ -L deliverables ] || rmdir deliverables 2>/dev/null
        [ -e optio.log ] || [ -e deliverables ] || unignore "$task"
    )
fi
remove workdir && remove session && remove bin && rm -f claimed ignored "$marker" || exit
cd / && rmdir -- "$1" 2>/dev/null
exit 0
