# How the agent of the session directory that we are in is.
# shellcheck shell=sh disable=SC2034
IFS= read -r boot </proc/sys/kernel/random/boot_id

standing() { # FILE: that very process runs, and is more than a zombie
  read -r pid start its_boot 2>/dev/null <"$1" && [ "$its_boot" = "$boot" ] || return 1
  stat=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1 # its name may hold a newline
  # shellcheck disable=SC2086 # the fields
  set -- ${stat##*) }
  [ "${20}" = "$start" ] && [ "$1" != Z ] && [ "$1" != X ]
}

look() { # -> $state $code; the exit file counts only when the process is gone
  turn=0 code='' state=lost
  until [ $turn -gt 40 ]; do
    if standing pid; then
      state=running
      standing launcher || state=running-without-launcher
      return
    fi
    if read -r code 2>/dev/null <./exit; then
      state=exited
      return
    fi
    turn=$((turn + 1))
    if standing launcher; then sleep 0.05 2>/dev/null || sleep 1; else turn=$((turn + 20)); fi
  done
  if [ ! -s launcher ]; then state=never-started
  elif read -r _ _ its_boot <launcher && [ "$its_boot" != "$boot" ]; then state=rebooted; fi
}
