# PATH BLOCK COUNT AHEAD: what PATH is, where it really lies, and how many zeros that stand on no
# disk begin at block AHEAD, a NUL behind each; then COUNT blocks of 4096 bytes from BLOCK on, or
# those in front of the zeros. Nothing where there is no such file.
# shellcheck shell=sh
[ -f "$1" ] || exit 0
[ -r "$1" ] || { printf 'unreadable\0'; exit 0; }
{ exec 3<"$1"; } 2>/dev/null || exit 0
open=/proc/self/fd/3 # by which each reader has a place of its own
stat -L -c '%f %d %i %s %Y %y %z' $open && printf '\0' && readlink $open && printf '\0' || exit
zeros=0 count=$3
# shellcheck disable=SC2046 # the numbers
set -- "$2" $(($4 * 4096)) $(stat -L -c '%b %B %s' $open)
if [ $(($3 * $4)) -lt "$5" ] && command -v perl >/dev/null; then # a sparse file may have terabytes
	# shellcheck disable=SC2016 # perl's own: where data comes next, SEEK_DATA; ENXIO: nowhere
	next=$(perl -e 'print 0 + (sysseek(STDIN, $ARGV[0], 3) || ($! == 6 ? -s STDIN : 0))' "$2" <$open)
	[ "$next" -le "$2" ] || zeros=$((next - $2)) count=$(($2 / 4096 - $1))
fi
printf '%s\0' $zeros
dd bs=4096 skip="$1" count="$count" <$open 2>/dev/null
