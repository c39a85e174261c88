# DIR TAG: the headers of the answers that came with a reason, each behind the name of its request.
# shellcheck shell=sh
enter "$1" "$2"
[ ! "$(find answers -type f -size +2000)" ] || exit 0 # no answer is so long, and this one has no end
for answer in answers/*; do
  [ -f "$answer" ] || continue
  IFS= read -r header <"$answer" || continue
  case $header in *' {'*) printf '%s %s\n' "${answer#answers/}" "$header" ;; esac
done
