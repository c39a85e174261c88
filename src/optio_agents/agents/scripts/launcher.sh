# DIR READY LINGER: run the agent of DIR in front, feed it from behind, write down how it ended.
# Detached, in an environment of its own. Standard input is a file without a name, and holds what
# the agent is to be as shell text. READY hears the agent's identity. LINGER, when not empty,
# names the interpreter that made us the reaper of all our descendants.
# shellcheck shell=sh disable=SC1091,SC3013
cd -P "$1" || exit 125
dir=$1 ready=$2 linger=$3 mask=$(umask)
umask 077
exec 5<&0 </dev/null
trap : HUP INT TERM QUIT USR1 USR2 PIPE ALRM # caught, not ignored: the agent would inherit that

identity() { # of this very shell, be it a subshell: PID START BOOT
  IFS= read -r stat </proc/self/stat
  IFS= read -r boot </proc/sys/kernel/random/boot_id
  pid=${stat%% *}
  # shellcheck disable=SC2086 # the fields
  set -- ${stat##*) }
  printf '%s %s %s\n' "$pid" "${20}" "$boot"
}

# What was fed moves to said/. There is one feeder and never another, so nothing is fed twice: a
# ghost that comes back into in/ meets its own name.
feed() {
  trap '' HUP INT TERM QUIT USR1 USR2 # a signal to the agent's group does not end its input
  exec 3<>bell 4>pipe 5<&- </dev/null >/dev/null 2>&1
  while :; do
    for message in in/*; do
      name=${message#in/}
      case $name in
        '*') break ;;
        *.eof) break 2 ;;
      esac
      if [ -e "said/$name" ]; then
        rm -f "$message"
        continue
      fi
      cat "$message" >&4 || break 2
      until mv "$message" "said/$name"; do sleep 1; done
    done
    read -r _ <&3 || sleep 1
  done
  : >closed
}

# Stop the session once its output has grown to LIMIT bytes, whether or not anybody watches.
guard() { # LIMIT
  trap '' HUP INT TERM QUIT USR1 USR2
  exec 5<&- </dev/null >/dev/null 2>&1
  while sleep 2; do
    # shellcheck disable=SC2046 # the sizes
    set -- "$1" $(stat -c %s stdout stderr)
    [ $(($2 + $3)) -ge "$1" ] || continue
    echo "its output reached $1 bytes" >reason
    # shellcheck disable=SC2046 # the words
    set -- $(head -c 200 launcher)
    /bin/sh stop "OPTIO_SESSION=$OPTIO_SESSION" 5 "$1:$2"
    break
  done
}

# The session may have been put aside while we came here.
{ mkfifo pipe && [ "$dir" -ef . ]; } 2>/dev/null || { echo taken 1<>"$ready"; exit 125; }
{
  identity >launcher.new && mv launcher.new launcher &&
    echo '    ' >exit.new # room, so that a full disk cannot hide the end
} || { echo failed 1<>"$ready"; exit 125; }
feed &
behind=$!
if read -r most 2>/dev/null <limit; then
  guard "$most" &
  behind="$behind $!"
fi
(
  { identity >pid.new && mv pid.new pid && read -r line <pid; } || line=failed
  echo "$line" 1<>"$ready"
  [ "$line" != failed ] || exit 125
  umask "$mask"
  . /proc/self/fd/5
  { command : >/proc/self/fd/5; } 2>/dev/null # its credentials are in its environment from now on
  exec "$@" 5<&-
) <pipe >>stdout 2>>stderr
code=$?
exec 5<&-
# shellcheck disable=SC2086 # one or two
{ kill -9 $behind; wait $behind; } 2>/dev/null
printf '%-4s\n' "$code" 1<>exit.new
# No child of ours may be needed from here on: whoever stops the session may kill it.
read -r children <"/proc/$$/task/$$/children"
case ${children:+$linger} in
  perl) exec perl -e 'rename "exit.new", "exit"; 1 while wait > 0' ;;
  python3) exec python3 -ISc 'import os
os.rename("exit.new", "exit")
while True: os.wait()' ;;
esac
exec mv exit.new exit
