# Runs scripts until its input ends. Each comes as "MARK LENGTH DATA_LENGTH", that many bytes of
# script and of its input; behind its output stands the MARK with its exit code, on stderr as well.
exact() { dd bs="$1" count=1 iflag=fullblock 2>/dev/null; }
[ "$(printf ab | exact 2)" = ab ] || exit 3
while read -r mark n m; do
  s=$(exact "$n")
  [ "${s##*#}" = end ] || exit 126
  if [ "$m" -gt 0 ]; then
    exact "$m" | (eval "$s")
  else
    (eval "$s") </dev/null
  fi
  printf '\n%s %s\n' "$mark" $?
  printf '\n%s\n' "$mark" >&2
done
