# What the scripts of a session directory share; it stands in front of them.
# shellcheck shell=sh disable=SC2034,SC2094,SC3013
usual=$(umask)
umask 077

into() { # NAME: a directory of ours and no link, in the one we are in
  here=${PWD%/}
  cd -P "./$1" 2>/dev/null || return 1
  [ "$PWD" = "$here/$1" ] && [ -O . ]
}

its_tag() { # -> $tag, of the directory we are in; its agent may have made it a pipe, or endless
  [ -f tag ] && tag=$(head -c 200 tag 2>/dev/null) && [ "$tag" ]
}

# ABSOLUTE PATH [TAG]: into the session directory. No link is followed in its last two names, and
# nobody else can change them between this look and the next, since the upper one is ours, too.
# What an owner runs has a $fence in front: the next epoch of the lease, which is not there yet.
enter() {
  task=${1%/*}
  [ -d "$1" ] || [ -L "$1" ] || refuse missing "there is no session in $task"
  { cd -P "${task%/*}/" 2>/dev/null && into "${task##*/}" && into "${1##*/}"; } ||
    refuse foreign "$1 is a link, or another user's"
  [ $# -eq 1 ] || { its_tag && [ "$tag" = "$2" ]; } ||
    refuse foreign "$1 belongs to another session"
  [ ! "${fence-}" ] || [ ! -e "$fence" ] || refuse stale "another supervisor has taken it over"
}

sound() { # . : what is read of the agent are small files: no pipe, no link, nothing endless
  [ ! "$(find tag pid launcher exit limit reason meta -prune \
    \( ! -type f -o ! -name meta -size +8 -o -size +2000 \) -print 2>/dev/null)" ]
}

private() { # . : whether others could change what it holds
  # shellcheck disable=SC2012 # one name, and stat differs from host to host
  case $(ls -ldn . | cut -c 1-10) in ?????w???? | ????????w?) return 1 ;; esac
}

whole() { # FILE LENGTH: it holds just so many bytes
  [ $(($(wc -c <"$1"))) -eq "$2" ]
}

receive() { # FILE LENGTH: standard input, all or nothing
  heard=$(LC_ALL=C dd bs=65536 of="$1" 2>&1) || {
    rm -f "$1"
    refuse unwritten "what was said cannot be written there: ${heard%%
*}"
  }
  # It counts as it writes, "N bytes" behind its records: a process less than to look again.
  # shellcheck disable=SC2086 # the words
  set -- "$1" "$2" ${heard##*records out}
  [ "$2" = "${3-}" ] || whole "$1" "$2" || { rm -f "$1"; refuse cut "only a part arrived"; }
}

plain() { # FILE: it is one, and neither a pipe, at which one would wait, nor what a link leads to
  [ -f "$1" ] && [ ! -L "$1" ]
}

same() { # A B: one file, or the same bytes
  [ "$1" -ef "$2" ] || { plain "$2" && cmp -s "$1" "$2"; }
}

# FILE NAME: say FILE under NAME. What the feeder has taken stands in said/, so a repeat, or a
# ghost that comes late, changes nothing.
say() {
  if ln "$1" "in/$2" 2>/dev/null; then
    [ ! -e "said/$2" ] || same "$1" "said/$2" || said=other
    [ ! -e closed ] || [ -e "said/$2" ] || { rm -f "in/$2"; said=late; }
  elif ! same "$1" "in/$2" 2>/dev/null && ! same "$1" "said/$2" 2>/dev/null; then
    said=other
    [ -e "in/$2" ] || [ -e "said/$2" ] || said=no
  fi
  echo 1<>bell # open for both, it never blocks
  rm -f "$1"
  case ${said-} in
    other) refuse taken "$2 was said before, with other words" ;;
    late) refuse closed "the agent takes no more input" ;;
    no) refuse unwritten "what was said cannot be written there" ;;
  esac
}
