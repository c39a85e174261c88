# DIR LOG DELIVERABLES TAG [PROCESS]: how the session is, one "NAME VALUE" a line; without a LOG, no
# more than how its processes are. PROCESS is known to be its agent, as "PID START BOOT".
# shellcheck shell=sh disable=SC2154
enter "$1" "$4"
private || refuse foreign "others may write to $1: chmod 700 it"
# shellcheck disable=SC2086 # the words
look ${5-}
printf 'state %s\ncode %s\n' "$state" "${code%% *}"
# shellcheck disable=SC2086 # none, or one
for name in tag $identity launcher reason; do # a line of each: whatever else stands there is no news
  [ ! -f $name ] || printf '%s %s\n' $name "$(head -c 500 $name | head -n 1)"
done
[ "$2" ] || exit 0
printf 'sizes %s\n' "$(stat -c %s stdout stderr 2>/dev/null | tr '\n' ' ')"
printf 'free %s\n' "$(df -Pk . | awk 'NR == 2 { print $4 }')"
changed=$({
  stat -c %Y stdout stderr "$2" ${3:+"$3"}
  [ ! -d "$3" ] || find "$3" -maxdepth 2 -type f -exec stat -c %Y {} +
} 2>/dev/null | sort -n | tail -n 1)
printf 'quiet %s\n' "$(($(date +%s) - ${changed:-0}))"
