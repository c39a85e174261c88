# DIR TAG LENGTH NONCE: one line on standard input, behind all that waits in `queue`.
# shellcheck shell=sh
enter "$1" "$2"
if [ -e exit ] || [ -e closed ]; then
  refuse closed "the agent takes no more input"
fi
[ ! -e queue ] || plain queue || refuse foreign "what stands for its queue is no file"
receive ".queue.$4" "$3"
cat ".queue.$4" >>queue || refuse unwritten "what was said cannot be written there"
rm -f ".queue.$4"
