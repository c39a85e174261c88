# inspect.sh PATH ROOT: whether PATH is a regular file really below ROOT. For hosts that can only be
# asked before they open it. Says the reason why not, or `ok SIZE IDENTITY` and the real path.
# shellcheck shell=sh
no() {
    echo "$1"
    exit 0
}
root=$(CDPATH='' cd -- "$(dirname -- "$2")" && pwd -P) || no missing
root=$root/$(basename -- "$2")
[ ! -L "$root" ] || no outside
real=$(readlink -f -- "$1") || no missing
[ -e "$real" ] || no missing
case $real in
    "$root"/*) ;;
    *) no outside ;;
esac
[ ! -d "$real" ] || no directory
[ -f "$real" ] || no special
[ -r "$real" ] || no unreadable
printf 'ok %s\n%s\n' "$(stat -c '%s %d:%i:%Y' -- "$real" || stat -f '%z %d:%i:%m' -- "$real")" "$real"
