# DIR TAG NAME LENGTH NONCE: one whole message on standard input, said under NAME exactly once.
# shellcheck shell=sh disable=SC2154
enter "$1" "$2"
if [ -e exit ] || [ -e closed ]; then
  [ -e "in/$3" ] || [ -e "said/$3" ] || refuse closed "the agent takes no more input"
fi
# Another attempt with this nonce may be dying on another connection, and remove what it wrote.
trap 'rm -f "in/.$5.$$"' EXIT
trap 'exit 143' HUP INT TERM
receive "in/.$5.$$" "$4"
say "in/.$5.$$" "$3"
