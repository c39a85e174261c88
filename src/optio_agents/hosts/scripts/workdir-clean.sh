# workdir-clean.sh TASKDIR USERDIR LOGDIR [PROCESS TAG]: remove what setting up made, and of USERDIR,
# if it is not empty, nothing else. PROCESS and TAG: see refuse_while_alive.
# shellcheck shell=sh disable=SC2154 # workdir.sh comes first
refuse_while_alive "$1" "$3/optio.log" "${4-}" "${5-}"
taken "$1" || exit 0
enter_taskdir "$1"
ours || refuse foreign "$1 was not made by optio-agents; it stays as it is"
chmod 700 . || exit
if [ "$2" ] && [ -f claimed ]; then
    task=$(pwd -P && echo .) && task=${task%??}
    ( # what was handed over stays with the user
        CDPATH='' cd -P -- "$3" 2>/dev/null && [ "$(place)" = "$(cat "$task/claimed")" ] || exit 0
        [ -d optio.log ] || rm -f optio.log
        for made in deliverables uploads attached; do
            [ -L "$made" ] || rmdir "$made" 2>/dev/null
        done
        case $3 in
            "$2"/.optio/*) # the last one to go takes what they share
                cd -P .. && rmdir "${3##*/}" 2>/dev/null && [ "$(ls -A)" = .gitignore ] &&
                    rm -f .gitignore && cd -P .. && rmdir .optio
                ;;
            *) [ -e optio.log ] || [ -e deliverables ] || unignore "$task" ;; # up to 0.3.2
        esac
    )
fi
remove workdir && remove session && remove bin && rm -f claimed ignored "$marker" || exit
cd / && rmdir -- "$1" 2>/dev/null
exit 0
