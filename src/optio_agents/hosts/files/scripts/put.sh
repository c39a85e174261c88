# TARGET SEAL MODE EXPECTED: stdin, up to the SEAL that ends it, becomes the file TARGET; says its size.
# A replaced file keeps its mode, a new one gets MODE (octal, or - for the usual) less the umask.
# With EXPECTED, the SHA-256 of what was written must be it. Who refuses leaves TARGET as it was.
# shellcheck shell=sh
usual=$(umask) target=$1
case $1 in
*/*) dir=${1%/*}/ ;;
*) dir=./ ;;
esac
[ ! -d "$1" ] || refuse directory "is a directory"
no() { refuse unwritten "$target: it could not be written"; }
[ -d "$dir" ] || mkdir -p -- "$dir" || no

umask 077
temp=$dir.optio-$(printf %.16s "$2").part
trap 'rm -f -- "$temp"' EXIT
trap 'exit 74' HUP INT TERM
cat >"$temp" || no
size=$(($(wc -c <"$temp") - ${#2}))
if [ "$size" -lt 0 ] || [ "$(tail -c ${#2} <"$temp")" != "$2" ]; then
    refuse unwritten "$target: not all of it arrived"
fi
# cut the seal off and wait for the disk
said=$(dd if=/dev/null of="$temp" bs=1 seek="$size" count=0 conv=fsync 2>&1) ||
    refuse unwritten "$target: $said"
if [ -n "$4" ]; then
    seen=$(sha256sum <"$temp" 2>/dev/null || shasum -a 256 <"$temp") || no
    [ "${seen%% *}" = "$4" ] ||
        refuse unwritten "$target: its SHA-256 would not be the expected one"
fi
if mode=$(stat -L -c %a -- "$1" 2>/dev/null || stat -L -f %Lp -- "$1" 2>/dev/null); then
    :
else
    mode=$3
    [ "$mode" != - ] || mode=666
    mode=$(printf %o $((0$mode & ~0$usual)))
fi
chmod "$mode" "$temp" || no
mv -f -- "$temp" "$1" || no
trap - EXIT
printf '%s' "$size"
