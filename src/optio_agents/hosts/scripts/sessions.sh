# BASE: every session in a task directory of ours below BASE, as "STATE TAG" and the lines of its
# path and its meta, behind a line of dashes.
# shellcheck shell=sh disable=SC2094,SC2154
cd -P "$1" 2>/dev/null || exit 0
base=$PWD
for meta in */session/meta; do
  (
    [ "$meta" != '*/session/meta' ] && into "${meta%%/*}" && into session || exit
    read -r tag <tag && look
    printf -- '---\n%s %s\n%s\n' "$state" "$tag" "$base/${meta%/meta}"
    head -c 100000 meta
  )
done
