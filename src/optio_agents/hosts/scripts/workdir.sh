# What setting up and cleaning share. The task directory is the current one: nobody can swap it.
# shellcheck shell=sh disable=SC2317 # for the script that follows
marker=.optio-task made=

enter_taskdir() { # DIR
    [ ! -L "$1" ] || refuse foreign "$1 is a symbolic link; a task directory must be a directory of its own"
    CDPATH='' cd -P -- "$1" 2>/dev/null || refuse foreign "$1 cannot be entered"
    [ -O . ] || refuse foreign "$1 belongs to another user; choose another task directory"
}

lives() { # PID START BOOT: is that very process at work? A zombie is not.
    pid=$1 start=$2 boot=$3
    case $pid in '' | *[!0-9]*) return 1 ;; esac
    [ -r /proc/self/stat ] || { kill -0 "$pid" 2>/dev/null; return; }
    read -r now </proc/sys/kernel/random/boot_id && [ "$boot" = "$now" ] || return 1
    stat=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1
    # shellcheck disable=SC2086 # split into its fields on purpose
    set -- ${stat##*) }
    [ "${20}" = "$start" ] && [ "$1" != Z ] && [ "$1" != X ]
}

# TASKDIR LOG [PROCESS [TAG]]: PROCESS, "PID START BOOT", is known to have been the agent there, and
# TAG begins the name of its start. No file of the session counts as proof that nothing lives.
refuse_while_alive() {
    # shellcheck disable=SC2086 # its words
    [ ! "${3-}" ] || ! lives $3 || refuse foreign "an agent (process $pid) still lives in $1; stop it first"
    for who in "$1/session/pid" "$1/session/launcher"; do
        [ -f "$who" ] || continue
        read -r pid start boot <<end
$(head -c 200 "$who" 2>/dev/null)
end
        ! lives "$pid" "$start" "$boot" ||
            refuse foreign "an agent (process $pid) still lives in $1; stop it first"
    done
    [ -r /proc/self/stat ] || return 0 # no agent of ours runs on such a host
    how=
    if printf 'a\0b\0' | grep -qszxF a 2>/dev/null; then
        how=records
    elif { echo line | grep -qF line; } 2>/dev/null; then
        how=lines
    fi
    turn=${made:+2} turn=${turn:-0} # nobody is being started in a directory that was just made
    until [ "$turn" -gt 2 ]; do # who is being exec'ed just now has no environment
        found=$(carriers "OPTIO_LOG=$2" "OPTIO_SESSION=${4:-/}") ||
            refuse foreign "the processes of this host could not be listed"
        [ ! "$found" ] || refuse foreign "what an agent started (process $found) still lives in $1; stop it first"
        turn=$((turn + 1))
    done
}

carriers() { # TEXT TEXT: a process that has one of these in its environment
    [ "$how" ] && [ -r "/proc/$$/environ" ] || return 1
    for first in $(
        if [ "$how" = records ]; then
            LC_ALL=C grep -lszF -e "$1" -e "$2" /proc/[0-9]*/environ 2>/dev/null
        else
            for e in /proc/[0-9]*/environ; do
                tr '\0' '\n' 2>/dev/null <"$e" | grep -qF -e "$1" -e "$2" && echo "$e"
            done 2>/dev/null
        fi
    ); do
        first=${first#/proc/}
        echo "${first%/environ}"
        return
    done
    return 0
}

remove() { # DIR: also what took the rights to itself away; of a link, nothing but that
    rm -rf -- "$1" 2>/dev/null || { [ ! -L "$1" ] && chmod -R u+rwx -- "$1" && rm -rf -- "$1"; }
}

taken() { # NAME: something stands there, be it a link that leads nowhere
    [ -e "$1" ] || [ -L "$1" ]
}

ours() { # the task directory carries our mark
    [ -f "$marker" ] && [ ! -L "$marker" ] && [ -O "$marker" ]
}

place() { # the identity of the current directory
    stat -L -c %d:%i . 2>/dev/null || stat -L -f %d:%i .
}

find_git() { # of the current directory: its path below the work tree, and the file of local ignores
    tree=$(pwd -P && echo .) && tree=${tree%??}
    below=$tree
    while [ ! -e "$tree/.git" ]; do
        [ -n "$tree" ] || return 1
        tree=${tree%/*}
    done
    below=$(printf %s "${below#"$tree"}" | sed 's/[][*?\\]/\\&/g')
    git=$tree/.git
    if [ -f "$git" ]; then # a linked work tree, or a submodule
        git=$(inside "$tree" "$(sed -n 's/^gitdir: //p' "$git")")
        [ ! -f "$git/commondir" ] || git=$(inside "$git" "$(cat "$git/commondir")")
    fi
    [ -d "$git" ] && exclude=$git/info/exclude
}

inside() { # DIR PATH: PATH as seen from DIR
    case $2 in
        /*) printf '%s\n' "$2" ;;
        *) printf '%s\n' "$1/$2" ;;
    esac
}

unignore() { # TASKDIR: have git see again what versions up to 0.3.2 had it ignore
    [ -s "$1/ignored" ] && find_git || return 0
    grep -vxF -f "$1/ignored" "$exclude" >"$1/exclude"
    cat "$1/exclude" >"$exclude"
    rm -f "$1/exclude" "$1/ignored"
}
