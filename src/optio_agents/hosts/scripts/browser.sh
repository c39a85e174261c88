#!/bin/sh
# xdg-open, gio, open and the like: tells the log what an agent wants to show instead of showing it.
[ "${0##*/}" != gio ] || [ "${1-}" != open ] || shift
log=${OPTIO_LOG:-"${0%/*}/../optio.log"}
[ -f "$log" ] || exit 0
for word do
    case $word in
    [Hh][Tt][Tt][Pp]://* | [Hh][Tt][Tt][Pp][Ss]://*) ;;
    *) continue ;;
    esac
    url=$(printf %s "$word" | tr -d '\000-\037\177' | sed 's/"/%22/g; s/ /%20/g')
    [ "${#url}" -le 8192 ] || continue
    open=
    [ -z "$(tail -c 1 "$log")" ] || open='
' # somebody's line is not ended yet
    printf '%sBROWSER: "%s"\n' "$open" "$url" >>"$log"
done
exit 0
