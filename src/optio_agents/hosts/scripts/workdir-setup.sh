# workdir-setup.sh TASKDIR USERDIR LOGDIR: a clean start, in TASKDIR/workdir or, if USERDIR is not
# empty, there: then LOGDIR, which is USERDIR/.optio/NAME, is all that is made and ours.
# shellcheck shell=sh disable=SC2154 # workdir.sh comes first
usual=$(umask)
umask 077
made=
[ -d "$1" ] || { { [ -d "${1%/*}/" ] || mkdir -p -- "${1%/*}/"; } && mkdir -- "$1" && made=yes; } ||
    [ -d "$1" ] || exit
enter_taskdir "$1"
if [ "$made" ]; then # nobody else can have put anything there
    : >"$marker" || exit
elif ! taken "$marker"; then
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
[ "$made" ] || chmod 700 . || exit
refuse_while_alive "$1" "$3/optio.log"
! taken session || remove session || exit
if [ ! "$2" ]; then
    { ! taken workdir || remove workdir; } && umask "$usual" && mkdir workdir
    exit
fi

task=$(pwd -P && echo .) && task=${task%??}
give_up() { # SENTENCE: a run that is refused leaves nothing behind
    [ ! "$made" ] || (cd "$task" && rm -f "$marker" && cd / && rmdir "$task") 2>/dev/null
    refuse foreign "$1"
}
CDPATH='' cd -P -- "$2" 2>/dev/null || give_up "$2 cannot be entered"
umask "$usual"
{ [ ! -L .optio ] && mkdir -p .optio && cd -P ./.optio; } 2>/dev/null ||
    give_up "$2/.optio cannot be made"
[ -e .gitignore ] || (set -C && echo '*' >.gitignore) 2>/dev/null
name=${3##*/}
if mkdir "$name" 2>/dev/null; then
    cd -P "./$name" && place >"$task/claimed" || exit # its time is when this session began
else
    { [ ! -L "$name" ] && cd -P "./$name" && [ "$(cat "$task/claimed")" = "$(place)" ]; } 2>/dev/null ||
        give_up "$3 exists and is not this session's, or cannot be made"
    touch "$task/claimed"
fi
