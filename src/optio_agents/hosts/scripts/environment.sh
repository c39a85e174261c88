# login|plain ours|theirs MARK
# Prints <MARK>, the environment of a fresh login shell with a NUL behind each entry, </MARK>.
# "ours": the shell starts without what only the supervisor was given.
# shellcheck shell=sh
[ "$1" = login ] && shell=${SHELL:-/bin/sh} || shell=/bin/sh
base=$2
say="printf '<$3>'; env -0; printf '</$3>'" # two plain words: the same to every shell
if [ "$1" = login ]; then set -- "$shell" -l -c "$say"; else set -- "$shell" -c "$say"; fi
if [ "$base" = ours ]; then
  user=$(id -un)
  set -- env -i HOME="$HOME" USER="$user" LOGNAME="$user" SHELL="${SHELL:-/bin/sh}" \
    PATH="$PATH" LANG="${LANG:-C.UTF-8}" ${TZ:+TZ="$TZ"} "$@"
fi
# Through a pipe: whatever the profile leaves running must not speak into our next answer.
"$@" </dev/null 2>/dev/null | cat
