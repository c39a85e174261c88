# What asking git about a tree takes in which an agent may have worked. Others come behind it.
# shellcheck shell=sh disable=SC2034 # index: for the script that follows
# shellcheck disable=SC2046 # names of variables
unset $(git rev-parse --local-env-vars 2>/dev/null) # a hook of git's may have started us

# The agent may have written that tree's configuration, and git runs programs that it names: so a
# repository of our own is asked, which only borrows the objects.
borrow_tree() { # that of the current directory, which becomes its top; $index is where its index is
    top=$(git rev-parse --show-toplevel) && objects=$(git rev-parse --git-path objects) &&
        ignored=$(git rev-parse --git-path info/exclude) &&
        index=$(git rev-parse --git-path index) || return
    case $objects in /*) ;; *) objects=$PWD/$objects ;; esac
    case $index in /*) ;; *) index=$PWD/$index ;; esac
    work=$(mktemp -d) || return
    trap 'rm -rf "$work"' EXIT
    trap 'exit 70' HUP INT TERM
    git init -q --bare "$work/git" || return
    if [ -f "$ignored" ]; then
        mkdir -p "$work/git/info" && cp "$ignored" "$work/git/info/exclude"
    fi
    export GIT_DIR="$work/git" GIT_WORK_TREE="$top" GIT_ALTERNATE_OBJECT_DIRECTORIES="$objects"
    cd "$top" && git config core.bare false
}
