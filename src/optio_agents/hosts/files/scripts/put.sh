# TARGET SEAL MODE EXPECTED: stdin, up to the SEAL that ends it, becomes the file TARGET; says its size.
# A replaced file keeps its mode, a new one gets MODE (octal, or - for the usual) less the umask.
# With EXPECTED, the SHA-256 of what was written must be it. Exit 65 broke off, 66 a directory,
# 67 other content, 74 could not be written; then TARGET is as it was.
# shellcheck shell=sh
usual=$(umask)
case $1 in
*/*) dir=${1%/*}/ ;;
*) dir=./ ;;
esac
[ ! -d "$1" ] || exit 66
[ -d "$dir" ] || mkdir -p -- "$dir" || exit 74

umask 077
temp=$dir.optio-$(printf %.16s "$2").part
trap 'rm -f -- "$temp"' EXIT
trap 'exit 74' HUP INT TERM
cat >"$temp" || exit 74
size=$(($(wc -c <"$temp") - ${#2}))
[ "$size" -ge 0 ] && [ "$(tail -c ${#2} <"$temp")" = "$2" ] || exit 65
# cut the seal off and wait for the disk
told=$(dd if=/dev/null of="$temp" bs=1 seek="$size" count=0 conv=fsync 2>&1) || {
    printf '%s\n' "$told" >&2
    exit 74
}
if [ -n "$4" ]; then
    seen=$(sha256sum <"$temp" 2>/dev/null || shasum -a 256 <"$temp") || exit 74
    [ "${seen%% *}" = "$4" ] || exit 67
fi
if mode=$(stat -L -c %a -- "$1" 2>/dev/null || stat -L -f %Lp -- "$1" 2>/dev/null); then
    :
else
    mode=$3
    [ "$mode" != - ] || mode=666
    mode=$(printf %o $((0$mode & ~0$usual)))
fi
chmod "$mode" "$temp" && mv -f -- "$temp" "$1" || exit 74
trap - EXIT
printf '%s' "$size"
