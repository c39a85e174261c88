# PATH ROOT LIMIT INLINE OFFSET: opens a regular file first and looks at what it opened then.
# Says "MODE SIZE DEVICE INODE MTIME", the SHA-256 of the first OFFSET bytes (- without OFFSET) and
# the real path, ended by NUL, and then the bytes from OFFSET on. With a ROOT, the real path must
# lie below it: a directory whose last part is no link, and it may have no other name. It refuses as "inline" what is larger than
# INLINE (behind the header, without the bytes), as "changed" what did not stay as it was.
# shellcheck shell=sh
look() { stat -L -c '%f %s %d %i %y' /proc/self/fd/0; }

send() { # with the file as stdin
    opened=yes
    was=$(look) || refuse unreadable "its host has no /proc or no stat"
    size=${was#* } size=${size%% *}
    case $was in
    8???\ *) ;;
    *) refuse special "is no regular file" ;;
    esac
    real=$(readlink /proc/self/fd/0 && echo .) && real=${real%??}
    if [ -n "$2" ]; then
        case $real in
        "$root"/*) ;;
        *) refuse outside "leads out of $2" ;;
        esac
        [ "$(stat -L -c %h /proc/self/fd/0)" -le 1 ] ||
            refuse linked "has other names, maybe elsewhere"
    fi
    [ "$3" = - ] || [ "$size" -le "$3" ] || refuse too-large "has $size bytes, more than $3"
    [ "$5" -le "$size" ] || refuse changed "changed while it was read"
    prefix=-
    [ "$5" -eq 0 ] || prefix=$(head -c "$5" /proc/self/fd/0 | sha256sum)
    printf '%s\n%s\n%s\0' "$was" "${prefix%% *}" "$real"
    [ "$4" = - ] || [ "$size" -le "$4" ] || refuse inline "has $size bytes"
    if [ "$5" -eq 0 ]; then cat; else tail -c "+$(($5 + 1))"; fi ||
        refuse unreadable "could not be read"
    [ "$(look)" = "$was" ] || refuse changed "changed while it was read"
}

if [ -n "$2" ]; then
    [ ! -L "$2" ] || refuse outside "leads out: $2 is a symbolic link"
    root=$(CDPATH='' cd -P -- "${2%/*}/" 2>/dev/null && pwd -P && echo .) ||
        refuse missing "does not exist"
    root=${root%??}
    root=${root%/}/${2##*/}
fi
[ -e "$1" ] || refuse missing "does not exist"
[ ! -d "$1" ] || refuse directory "is a directory"
[ -f "$1" ] || refuse special "is no regular file"
{ send "$@" <"$1" 2>&3; } 3>&2 2>/dev/null # what a shell says of a file it cannot open
code=$?
[ "${opened-}" ] || refuse unreadable "cannot be read"
exit $code
