# NAME=VALUE GRACE ANCHOR|- [[?]PID:START ...]
# Ends every process of ours that carries NAME=VALUE in its environment, is one of the roots, or
# belongs to such a one by parent, process group or session. A root with a ? in front, and the
# ANCHOR, were named by files of the agent's: one that lives without NAME=VALUE is somebody else's,
# and stays out of it. TERM, GRACE seconds, then STOP and KILL until six scans in a row find none:
# one walk over /proc is no snapshot. Gives up after 5 seconds of KILL and 50 looks: a starved
# machine may find no time for a look in 5 seconds. ANCHOR (PID:START) may outlive the rest by 5
# seconds, so that it can write down how that ended; if it is a child subreaper, nothing escapes it
# however fast it forks, since it is not killed while it has a child.
# Exit 0: nothing is left. Exit 1: survivors, one "PID COMMAND" a line.
tag=$1 grace=$2 anchor=$3
shift 3
told=" " uid=$(id -u)

if printf 'a\0b\0' | grep -qszxF a 2>/dev/null; then
  tagged() { grep -lszxF -- "$tag" /proc/[0-9]*/environ 2>/dev/null; }
else
  tagged() {
    for e in /proc/[0-9]*/environ; do
      tr '\0' '\n' 2>/dev/null <"$e" | grep -qxF -- "$tag" && echo "$e"
    done 2>/dev/null
  }
fi

# WALKS: a dot, or one of them failed; then PID:START of all that live and are to go, as any of so
# many walks over /proc has found them; never this script, its helpers or its ancestors.
# A process names itself, newlines and parentheses included: a record ends with its 40th number.
scan() {
  walk=0
  while [ $walk -lt "$1" ]; do
    echo "known $known"; tagged; cat /proc/[0-9]*/stat 2>/dev/null; echo walked
    walk=$((walk + 1))
  done | awk -v me=$$ -v anchor="$anchor" -v walks="$1" '
    record == "" && /^known / { for (i = 2; i <= NF; i++) { split($i, k, ":"); start[k[1]] = k[2] }; next }
    record == "" && /^\/proc\// { split($0, k, "/"); in_set[k[3]] = 1; next }
    record == "" && /^walked$/ { judge(); next }
    {
      record = record $0; rest = record
      sub(/^.*\) /, "", rest)
      if (split(rest, f, " ") < 40 || rest !~ /^[A-Za-z][-0-9 ]*$/) next
      pid = record + 0; record = ""
      state[pid] = f[1]; parent[pid] = f[2]; group[pid] = f[3]; session[pid] = f[4]; born[pid] = f[20]
    }
    function hit(q) {
      if (q <= 1) return 0
      return (q in in_set) || ((q in start) && (!(q in born) || born[q] == start[q]))
    }
    function mine(q, hops) {
      for (hops = 0; q > 1 && hops < 1000; hops++) { if (q == me) return 1; q = parent[q] }
      return 0
    }
    function judge() {
      if (me in state) walks--
      for (p in in_set) if (!(p in state)) delete in_set[p]
      for (p in start) if ((p in born) && born[p] == start[p]) in_set[p] = 1
      do {
        more = 0
        for (p in state) if (!(p in in_set) && (hit(parent[p]) || hit(group[p]) || hit(session[p]))) { in_set[p] = 1; more = 1 }
      } while (more)
      for (p = me; p > 1 && (p in parent); p = parent[p]) above[p] = 1
      for (p in in_set)
        if (state[p] != "Z" && state[p] != "X" && !(p in above) && !mine(p) && p ":" born[p] != anchor) found[p ":" born[p]] = 1
      split("", start); split("", in_set); split("", above)
      split("", state); split("", parent); split("", group); split("", session); split("", born)
    }
    END {
      if (!walks) print "."
      for (one in found) print one
    }'
}

ours() { # PID: its real user is the one we are, and it is more than a zombie
  while read -r name value _; do
    case $name in
      State:) [ "$value" != Z ] || return 1 ;;
      Uid:) [ "$value" = "$uid" ]; return ;;
    esac
  done 2>/dev/null <"/proc/$1/status"
}
standing() { # PID:START still runs
  read -r stat 2>/dev/null <"/proc/${1%:*}/stat" || return 1
  # shellcheck disable=SC2086 # the fields
  set -- "$1" ${stat##*) }
  [ "${21}" = "${1#*:}" ] && [ "$2" != Z ] && [ "$2" != X ]
}
another() { # PID:START: it runs, and is not of this tag
  standing "$1" && ! tr '\0' '\n' 2>/dev/null <"/proc/${1%:*}/environ" | grep -qxF -- "$tag"
}
# What walks over /proc too slowly to see is a child of the anchor as soon as its parent is gone.
# Only builtins here, or it would fork faster than it dies.
hunt() { # SIGNAL: succeeds if there was something to send it to
  hunted=no round=0
  while [ $round -lt 200 ] && standing "$anchor"; do
    children=''
    read -r children <"$nursery" # it ends without a newline: the status says nothing
    [ "$children" ] || break
    for child in $children; do
      case $above in *" $child "*) continue ;; esac
      [ "$1" = TERM ] || kill -STOP "$child" # first of all: it forks while we look at it
      if ours "$child"; then
        hunted=yes
        kill -s "$1" "$child"
      elif [ "$1" != TERM ]; then
        kill -CONT "$child"
      fi
    done
    round=$((round + 1))
  done 2>/dev/null
  [ $hunted = yes ]
}
clock() { read -r up _ </proc/uptime; up=${up%.*}${up#*.}; } # hundredths of a second
begin() { clock; kill_at=$((up + grace)) give_up_at=$((up + grace + 500)); }
worn_out() { clock; [ "$up" -ge "$give_up_at" ] && [ $looks -ge 50 ]; }
nap() { sleep "$1" 2>/dev/null || sleep 1; }
survivors() { # PID:START ...
  for p; do
    line=$(tr '\0\n' '  ' <"/proc/${p%:*}/cmdline" | cut -c 1-200) 2>/dev/null
    echo "${p%:*} ${line:-?}"
  done
}

above=" $$ " p=$$
while [ "${p:-0}" -gt 1 ]; do
  above="$above$p " p=$(sed -n 's/^PPid:[^0-9]*//p' "/proc/$p/status" 2>/dev/null)
done
known=" "
for root; do
  case $root in \?*) root=${root#?} && another "$root" && continue ;; esac
  known="$known$root "
done
! another "$anchor" || anchor=-
standing "$anchor" || anchor=- # it has ended, and written down how
nursery=/proc/${anchor%:*}/task/${anchor%:*}/children
case $grace in *.*) part=${grace#*.}00 ;; *) part=00 ;; esac
grace=$((${grace%%.*} * 100 + 1${part%"${part#??}"} - 100))
begin
quiet=0 looks=0 rounds=0 walks=1
[ "$anchor" != - ] || walks=6 # nothing is left, as a rule
while :; do
  gone=yes fresh='' all='' foreign='' looks=$((looks + 1))
  # shellcheck disable=SC2046 # the list
  set -- $(scan $walks)
  if [ "${1-}" != . ]; then # no process left for it, perhaps: that is not "nothing found"
    nap 0.05
    worn_out || continue
    echo "? the processes could not be listed"
    exit 1
  fi
  shift
  for p; do
    if ours "${p%:*}"; then gone=no; all="$all ${p%:*}"; else foreign="$foreign $p"; continue; fi
    case $known in *" $p "*) ;; *) known="$known$p " ;; esac
    case $told in *" $p "*) continue ;; esac
    [ "$told" != " " ] || begin # nobody was told yet: a look takes long on a busy machine
    told="$told$p " fresh="$fresh ${p%:*}"
  done
  if [ $gone = yes ]; then
    quiet=$((quiet + walks))
    clock
    if [ "$up" -ge "$kill_at" ]; then signal=KILL; else signal=TERM; fi
    if ! worn_out && hunt $signal; then quiet=0; fi
    [ $quiet -ge 6 ] || continue
    if [ "$anchor" != - ]; then
      i=0
      standing "$anchor" && kill -CONT "${anchor%:*}" # or it never hears of their end
      while [ $i -lt 100 ] && standing "$anchor"; do nap 0.05; i=$((i + 1)); done
      # What it still holds was missed by all these looks, and is nobody's once it has gone.
      left=$(cat "$nursery" 2>/dev/null)
      if [ "$left" ] && standing "$anchor"; then
        quiet=0
        worn_out || continue
        # shellcheck disable=SC2086 # the list
        survivors $left
        exit 1
      fi
      known="$known$anchor " anchor=- quiet=0 walks=6
      continue
    fi
    # shellcheck disable=SC2086 # the list
    set -- $foreign
    survivors "$@"
    [ $# -eq 0 ]
    exit
  fi
  quiet=0 walks=1 rounds=$((rounds + 1))
  clock
  # shellcheck disable=SC2086 # the lists
  if [ "$up" -ge "$kill_at" ]; then
    kill -STOP $all 2>/dev/null
    kill -KILL $all 2>/dev/null
    hunt KILL # or a chain of forks is seen in every scan, and gone before it is hit
    if worn_out; then
      survivors "$@"
      exit 1
    fi
    [ $rounds -le 10 ] || nap 0.02
  else
    [ -z "$fresh" ] || kill -TERM $fresh 2>/dev/null
    [ -z "$fresh" ] || kill -CONT $fresh 2>/dev/null # or a stopped one never hears it
    if [ $rounds -le 8 ]; then nap 0.01; else nap 0.05; fi
  fi
done
