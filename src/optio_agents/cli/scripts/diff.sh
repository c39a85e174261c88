# diff.sh DIR SINCE MOST: what changed in the git tree around DIR since SINCE, at most MOST bytes.
# shellcheck shell=sh
# An agent may have written the tree's configuration, and git runs programs that it names: so a
# repository of our own is asked, which only borrows the objects.
CDPATH='' cd -P -- "$1" || exit
command -v git >/dev/null || { echo "git is not installed there" >&2; exit 65; }
top=$(git rev-parse --show-toplevel 2>/dev/null) || { echo "$PWD is no git tree" >&2; exit 65; }
own=$(git rev-parse --absolute-git-dir) && objects=$(git rev-parse --git-path objects) || exit
case $objects in /*) ;; *) objects=$PWD/$objects ;; esac
base=$(git rev-parse --verify --quiet "HEAD@{$2}^{commit}" 2>/dev/null) ||
    base=$(git rev-parse --verify --quiet HEAD) || base=
work=$(mktemp -d) || exit
trap 'rm -rf "$work"' EXIT
trap 'exit 70' HUP INT TERM
git init -q --bare "$work/git" || exit
if [ -f "$own/info/exclude" ]; then
    mkdir -p "$work/git/info" && cp "$own/info/exclude" "$work/git/info/exclude"
fi
export GIT_DIR="$work/git" GIT_WORK_TREE="$top" GIT_ALTERNATE_OBJECT_DIRECTORIES="$objects"
cd "$top" || exit
git config core.bare false
[ -z "$base" ] || git read-tree "$base" || exit
git add -A -N . 2>/dev/null
git --no-pager diff --no-color --no-ext-diff --no-textconv | head -c "$3"
