# channel.sh DIR start|resume: deliverables/ and an empty optio.log in DIR; says where DIR really is.
# shellcheck shell=sh
case $2,$1 in
    resume,*/workdir | resume,*/.optio/*) # of ours, and no link when we made it
        if [ -L "$1" ] || [ -L "${1%/*}" ]; then
            echo "linked cannot hold the log channel: it is a link by now" >&2
            exit 64 # as refuse.sh does
        fi
        ;;
esac
CDPATH='' cd -P -- "$1" 2>/dev/null || {
    echo "missing cannot hold the log channel: it is not there, or cannot be entered" >&2
    exit 64
}
if [ "$2" = start ]; then
    if [ -L deliverables ] || [ ! -d deliverables ]; then
        rm -f deliverables && mkdir deliverables || exit
    fi
    if [ -L optio.log ] || [ ! -f optio.log ]; then
        rm -f optio.log || exit
    fi
    : >optio.log || exit
fi
pwd -P && echo . # a name may end in a newline
