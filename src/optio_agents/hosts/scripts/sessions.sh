# BASE: every session in a task directory of ours below BASE, in three lines: "STATE TAG", its path,
# its meta.
# shellcheck shell=sh disable=SC2094,SC2154
cd -P "$1" 2>/dev/null || exit 0
base=${PWD%/}
for meta in */session/meta; do
  case $meta in '*/session/meta' | *"
"*) continue ;; esac
  (
    into "${meta%%/*}" && into session || exit
    read -r tag <tag && look
    printf '%s %s\n%s\n%s\n' "$state" "$tag" "$base/${meta%/meta}" "$(head -n 1 meta)"
  )
done
