# other-log.sh DIR LOGDIR TASKDIR: an optio.log in or below DIR, but not that of LOGDIR, which says
# something. Where LOGDIR is not DIR, that is the user's: only what was written since the session
# began counts, and nothing of other sessions there.
# shellcheck shell=sh
CDPATH='' cd -- "$1" || exit
if [ "$1" = "$2" ]; then
    set -- ! -path ./optio.log
else
    set -- -newer "$3/claimed"
fi
find . -maxdepth 5 \( -name .git -o -name .optio -o -name node_modules -o -name deliverables \) -prune \
    -o -name optio.log -type f -size +0 "$@" -print 2>/dev/null | head -n 1
