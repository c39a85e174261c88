# MARK: the PATH of a user's interactive shell, as a terminal has it, between <MARK> and </MARK>.
# Apart from any terminal that we may have: an interactive shell would take it for its own.
# shellcheck shell=sh
set -- "printf '<$1>'; printenv PATH; printf '</$1>'" # plain words: the same to every shell
setsid "${SHELL:-/bin/sh}" -ic "$1" </dev/null 2>/dev/null | cat
