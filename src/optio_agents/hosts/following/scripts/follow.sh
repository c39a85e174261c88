# Looks at files for the other end of our stdin, by python3 where there is one, else by itself.
# Arguments: "shell" or "any", then the length of the program that follows on stdin for python3.
# Nothing stands before the greeting, and the program comes only after it. Ends with its stdin.

if [ "$1" != shell ] && command -v python3 >/dev/null 2>&1; then
	exec python3 -u -S -E -c '
import os, sys
if sys.version_info < (3, 7):
    sys.exit()
os.write(1, b"python\n")
size, program = int(sys.argv[1]), b""
while len(program) < size:
    piece = os.read(0, size - len(program))
    if not piece:
        sys.exit()
    program += piece
exec(program)
' "$2"
fi

set -f
if command -v base64 >/dev/null 2>&1; then
	echo 'shell base64'
	encode() { base64; }
else
	echo 'shell hex'
	encode() { od -An -v -tx1; }
fi
format='%f %d %i %s %Y %y %z'
keys=

# add KEY, then a line with the path
add() {
	IFS= read -r path || exit 0
	eval "path_$1=\$path"
	keys="$keys $1"
}

# drop KEY
drop() {
	unset "path_$1"
	left=
	for key in $keys; do
		[ "$key" = "$1" ] || left="$left $key"
	done
	keys=$left
}

# all: a line for each path that there is, with the path at its end
all() {
	set --
	for key in $keys; do
		eval "set -- \"\$@\" \"\$path_$key\""
	done
	[ $# = 0 ] || stat -L -c "$format %n" -- "$@" 2>/dev/null
}

# look KEY SKIP COUNT: what is open, where it lies, and COUNT blocks of it behind SKIP
look() {
	eval "path=\$path_$1"
	[ -f "$path" ] || return 0
	if [ ! -r "$path" ]; then
		echo unreadable
		return 0
	fi
	{
		stat -L -c "$format" /proc/self/fd/3 &&
			readlink /proc/self/fd/3 &&
			dd bs=4096 skip="$2" count="$3" <&3 2>/dev/null | encode
	} 3<"$path" 2>/dev/null
}

# process PID
process() {
	cat "/proc/$1/stat" /proc/sys/kernel/random/boot_id 2>/dev/null
}

while IFS= read -r line; do
	# shellcheck disable=SC2086 # words of ours
	set -- $line
	case $1 in
	add | drop | all | look | process) "$@" ;;
	esac
	echo .
done
