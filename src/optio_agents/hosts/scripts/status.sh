# DIR LOG DELIVERABLES [TAG]: how the session is, one "NAME VALUE" a line.
# shellcheck shell=sh disable=SC2154
enter "$1" ${4:+"$4"}
private || refuse "$foreign" "others may write to $1: chmod 700 it"
look
printf 'state %s\ncode %s\n' "$state" "${code%% *}"
for name in tag pid launcher meta reason; do
  [ ! -s $name ] || { printf '%s ' $name; cat $name; }
done
printf 'sizes %s\n' "$(stat -c %s stdout stderr 2>/dev/null | tr '\n' ' ')"
printf 'free %s\n' "$(df -Pk . | awk 'NR == 2 { print $4 }')"
changed=$({
  stat -c %Y stdout stderr ${2:+"$2"} ${3:+"$3"}
  [ ! -d "$3" ] || find "$3" -maxdepth 2 -type f -exec stat -c %Y {} +
} 2>/dev/null | sort -n | tail -n 1)
printf 'quiet %s\n' "$(($(date +%s) - ${changed:-0}))"
