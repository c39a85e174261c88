# workdir-setup.sh TASKDIR USERDIR: a clean start, in USERDIR or, if that is empty, TASKDIR/workdir.
# shellcheck shell=sh disable=SC2154 # workdir.sh comes first
usual=$(umask)
umask 077
[ -d "$1" ] || mkdir -p -- "$1" || exit
enter_taskdir "$1"
if ! taken "$marker"; then
    for name in workdir session; do
        [ -L $name ] || rmdir $name 2>/dev/null
        ! taken $name ||
            refuse foreign "$1/$name exists and was not made by optio-agents; choose another task directory"
    done
    case $(ls -ld .) in # what others may write to is safe to take over only while it is empty
        d????-??-*) ;;
        *) [ -z "$(ls -A .)" ] || refuse foreign "$1 may be written to by others; choose another task directory" ;;
    esac
    chmod 700 . && : >"$marker" || exit
fi
ours || refuse foreign "$1/$marker was not made by optio-agents"
chmod 700 . || exit
refuse_while_alive "$1" "${2:-"$1/workdir"}/optio.log"
remove session || exit
if [ ! "$2" ]; then
    remove workdir && umask "$usual" && mkdir workdir
    exit
fi

task=$(pwd -P && echo .) && task=${task%??}
CDPATH='' cd -P -- "$2" 2>/dev/null || refuse foreign "$2 cannot be entered"
here=$(place)
if [ ! -f "$task/claimed" ] || [ "$(cat "$task/claimed")" != "$here" ]; then
    for name in optio.log deliverables; do
        ! taken $name ||
            refuse foreign "$2/$name exists and is not this session's; move it away or choose another directory"
    done
    umask "$usual"
    (set -C && : >optio.log) 2>/dev/null || refuse foreign "$2/optio.log cannot be made"
    mkdir deliverables || { rm -f optio.log; refuse foreign "$2/deliverables cannot be made"; }
    printf '%s\n' "$here" >"$task/claimed" || exit
fi
ignore "$task" || true # the session works all the same
