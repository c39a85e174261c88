# diff.sh DIR SINCE MOST: what changed in the git tree around DIR since SINCE, at most MOST bytes.
# shellcheck shell=sh disable=SC2154 # git.sh comes first
CDPATH='' cd -P -- "$1" || exit
command -v git >/dev/null || { echo "git is not installed there" >&2; exit 65; }
git rev-parse --show-toplevel >/dev/null 2>&1 || { echo "$PWD is no git tree" >&2; exit 65; }
base=$(git rev-parse --verify --quiet "HEAD@{$2}^{commit}" 2>/dev/null) ||
    base=$(git rev-parse --verify --quiet HEAD) || base=
borrow_tree || exit
[ -z "$base" ] || git read-tree "$base" || exit
git add -A -N . 2>/dev/null
git --no-pager diff --no-color --no-ext-diff --no-textconv | head -c "$3"
