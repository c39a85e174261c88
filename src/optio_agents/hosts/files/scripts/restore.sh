# TASKDIR NEW: stdin, a tar stream that was filtered, becomes TASKDIR/workdir, if all of it is good.
# NEW is also the last member: a link that breaks cannot put it there.
# shellcheck shell=sh disable=SC2154 # workdir.sh comes first
enter_taskdir "$1"
ours || refuse foreign "$1 was not made by optio-agents; it stays as it is"
refuse_while_alive "$1" "$1/workdir/optio.log"
new=$2
trap 'remove "$new" 2>/dev/null' EXIT
trap 'exit 74' HUP INT TERM
mkdir -- "$new" || refuse unwritten "$1 cannot be written"
said=$(EXTRACT_UNSAFE_SYMLINKS=1 tar -xpof - -C "$new" 2>&1) ||
    refuse unwritten "$(printf %s "$said" | tail -c 1000)"
rm -- "$new/$new" 2>/dev/null || refuse unwritten "it broke off"
remove workdir && mv -- "$new" workdir
