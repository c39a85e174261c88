# worktree.sh plan DIR BRANCH: whether DIR can have a work tree of its own on BRANCH. Says the commit
# where BRANCH begins, or nothing where it is there already, and in which directory of its tree DIR is.
# worktree.sh add DIR TREE BRANCH BASE: make it; BASE is that commit.
# worktree.sh check|remove DIR TREE BRANCH BASE: refuse where something in TREE is committed nowhere.
# Else remove it, and BRANCH if we made it and nothing was committed there: or else say its name.
# shellcheck shell=sh disable=SC2154,SC2015 # refuse.sh and git.sh come first
do=$1 dir=$2 tree=$3 branch=$4 base=$5
here() { CDPATH='' cd -P -- "$(git rev-parse --git-common-dir)" && pwd -P; }
quiet_git() { git -c core.hooksPath=/dev/null "$@"; }
remove_branch() { # where we made it and nothing was committed there; else say its name
    [ "$base" ] && tip=$(git rev-parse -q --verify "refs/heads/$branch") || return 0
    if [ "$tip" = "$base" ]; then
        quiet_git branch -q -D -- "$branch" 2>/dev/null || :
    else
        printf '%s' "$branch"
    fi
}

command -v git >/dev/null || refuse foreign "git is not installed there"
if ! { said="it cannot be entered" && CDPATH='' cd -P -- "$dir" 2>/dev/null &&
    said=$(git rev-parse --is-inside-work-tree 2>&1) && [ "$said" = true ]; }; then
    case $do in check | remove) [ -e "$tree" ] || exit 0 ;; esac # nothing is left of it
    refuse foreign "$dir is no git tree, so it has no work trees: $said"
fi

case $do in
    plan)
        branch=$tree
        git check-ref-format --branch "$branch" >/dev/null 2>&1 ||
            refuse foreign "'$branch' cannot be the name of a branch"
        base=
        git show-ref -q --verify "refs/heads/$branch" ||
            base=$(git rev-parse -q --verify 'HEAD^{commit}') ||
            refuse foreign "$dir has no commit yet at which a branch could begin"
        printf '%s\n' "$base"
        git rev-parse --show-prefix
        ;;
    add)
        [ ! -e "$tree" ] || refuse foreign "$tree is there already, of another session"
        (umask 077 && mkdir -p -- "${tree%/*}") || exit
        if [ "$base" ]; then
            said=$(git worktree add -q -b "$branch" -- "$tree" "$base" 2>&1)
        else
            said=$(git worktree add -q -- "$tree" "$branch" 2>&1)
        fi && exit
        quiet_git worktree remove --force "$tree" 2>/dev/null # some of it may be there
        remove_branch
        refuse foreign "$dir gets no work tree: $said"
        ;;
    check | remove)
        common=$(here) || exit
        if [ -e "$tree" ]; then
            CDPATH='' cd -P -- "$tree" 2>/dev/null && [ "$(here)" = "$common" ] &&
                head=$(git rev-parse -q --verify 'HEAD^{commit}') ||
                refuse foreign "$tree is no work tree of $dir any more: move away what is in it"
            [ "$(git for-each-ref --count=1 --contains "$head")" ] ||
                refuse foreign "in $tree is a commit that is on no branch: give it one, then prune again"
            # an index that is older than every file makes git compare what these hold
            said=$(borrow_tree && echo "$head" >"$GIT_DIR/HEAD" && cp "$index" "$GIT_DIR/index" &&
                touch -t 197001020000 "$GIT_DIR/index" && git status --porcelain 2>&1) || refuse foreign "git cannot tell about $tree: $said"
            [ ! "$said" ] ||
                refuse foreign "what is in $tree is not committed: commit it or remove it, then prune again"
            [ "$do" = remove ] || exit 0
            cd -P / && said=$(quiet_git --git-dir="$common" worktree remove --force "$tree" 2>&1) ||
                refuse foreign "$tree cannot be removed: $said"
        fi
        [ "$do" = remove ] || exit 0
        CDPATH='' cd -P -- "$common" && git worktree prune && remove_branch
        ;;
esac
