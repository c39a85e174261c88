# channel.sh DIR start|resume: deliverables/ and an empty optio.log in DIR; says where DIR really is.
# shellcheck shell=sh
CDPATH='' cd -P -- "$1" || exit
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
