# BASE LIMIT: every session in a task directory of ours below BASE, in three lines: "STATE TAG", its
# path, its meta, if that has no more than LIMIT bytes. Of a damaged one only the path is said.
# shellcheck shell=sh disable=SC2094,SC2154
cd -P "$1" 2>/dev/null || exit 0
base=${PWD%/}
for meta in */session/meta; do
  case $meta in '*/session/meta' | *"
"*) continue ;; esac
  (
    into "${meta%%/*}" && into session || exit
    if sound && [ -f tag ] && read -r tag <tag; then
      look
      line=$(head -c "$(($2 + 1))" meta | head -n 1)
      [ "${#line}" -le "$2" ] || line=
    else
      state=damaged tag='' line=
    fi
    printf '%s %s\n%s\n%s\n' "$state" "$tag" "$base/${meta%/meta}" "$line"
  )
done
