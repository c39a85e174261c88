# DIR TAG [REQUEST]: the requests that were answered, one name a line; or how REQUEST was.
# shellcheck shell=sh
enter "$1" "$2"
if [ $# = 2 ]; then
  ls answers
elif plain "answers/$3"; then
  head -c 800000 "answers/$3"
fi
