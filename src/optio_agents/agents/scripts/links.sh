# DIR TAG DIRECTORY…: the first link in each of these, or each that is none or a link itself.
# shellcheck shell=sh
enter "$1" "$2"
shift 2
for directory; do
  if [ -d "$directory" ]; then
    find "$directory" -type l 2>/dev/null | head -n 1
  else
    echo "$directory"
  fi
done
