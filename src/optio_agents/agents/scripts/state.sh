# How the agent of the session directory that we are in is.
# shellcheck shell=sh disable=SC2034,SC2154
IFS= read -r boot </proc/sys/kernel/random/boot_id

runs() { # PID START BOOT -> $pid: that very process runs, and is more than a zombie
  pid=$1 start=$2
  case $pid in '' | *[!0-9]*) return 1 ;; esac
  [ "$3" = "$boot" ] && stat=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1 # a name holds newlines
  # shellcheck disable=SC2086 # the fields
  set -- ${stat##*) }
  [ "${20}" = "$start" ] && [ "$1" != Z ] && [ "$1" != X ]
}

named() { # FILE -> $pid $start $its_boot, in its first line; the agent may have made it endless
  [ -f "$1" ] && read -r pid start its_boot <<end
$(head -c 200 "$1" 2>/dev/null)
end
  [ "${its_boot-}" ]
}

standing() { # FILE: so does the process that it names
  its_boot='' && named "$1" && runs "$pid" "$start" "$its_boot"
}

at_work() { # [PID START BOOT]: so does the agent; who knows which one it is need not ask its files
  if [ "${1-}" ]; then runs "$@"; else standing pid; fi
}

carried() { # by a process: the tag of this session, in its environment
  if printf 'a\0b\0' | grep -qszxF b 2>/dev/null; then
    grep -lszxF -- "OPTIO_SESSION=$tag" /proc/[0-9]*/environ 2>/dev/null | grep -q .
    return
  fi
  for environ in /proc/[0-9]*/environ; do
    tr '\0' '\n' 2>/dev/null <"$environ" | grep -qxF -- "OPTIO_SESSION=$tag" && return
  done 2>/dev/null
  return 1
}

# [PID START BOOT] -> $state $code; the exit file counts only when the process is gone. Where only
# the agent's own file says which process it is, and that one is gone without an exit, then what
# carries its tag is more to be believed: $identity is empty, for nobody knows which one it is.
look() {
  turn=0 code='' state=lost identity=pid
  until [ $turn -gt 40 ]; do
    if at_work "$@"; then
      state=running
      standing launcher || state=running-without-launcher
      return
    fi
    if [ -f exit ] && code=$(head -c 200 exit 2>/dev/null | head -n 1) && [ "$code" ]; then
      [ "${1-}" ] || [ -s pid ] || ! carried || break
      state=exited
      return
    fi
    turn=$((turn + 1))
    if standing launcher; then sleep 0.05 2>/dev/null || sleep 1; else turn=$((turn + 20)); fi
  done
  if [ ! "${1-}" ] && carried; then
    state=running-without-launcher code='' identity=''
    ! standing launcher || state=running
    return
  fi
  its_boot=${3-}
  if [ "$its_boot" ] || named launcher; then
    [ "$its_boot" = "$boot" ] || state=rebooted
  else state=never-started; fi
}
