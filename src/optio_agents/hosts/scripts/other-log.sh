# other-log.sh DIR: an optio.log below DIR but not in it, if there is one that says something.
# shellcheck shell=sh
CDPATH='' cd -- "$1" || exit
find . -maxdepth 5 \( -name .git -o -name node_modules -o -name deliverables \) -prune -o \
    -name optio.log -type f -size +0 ! -path ./optio.log -print 2>/dev/null | head -n 1
