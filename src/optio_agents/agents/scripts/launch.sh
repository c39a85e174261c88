# DIR TAG TEXT: start the launcher of a prepared session, detached; say the agent's identity, "taken"
# when it was started before, "absent", with nothing done, where there is no such program, or
# "failed". Safe to repeat. TEXT is shell text, the environment and the arguments of the agent: it
# stands in no command line, and in a file without a name alone.
# shellcheck shell=sh disable=SC2154
enter "$1" "$2"
[ ! -p pipe ] || { echo taken; exit; }
( # 9: the program is not there
  eval "$3"
  case $1 in
    */*) [ -e "$1" ] || exit 9 ;;
    *)
      [ "${PATH+set}" ] || exit 0
      set -f
      IFS=:
      for dir in $PATH; do
        [ ! -f "${dir:-.}/$1" ] || [ ! -x "${dir:-.}/$1" ] || exit 0
      done
      exit 9
      ;;
  esac
) >/dev/null 2>&1
[ $? -ne 9 ] || { echo absent; exit; }
ready=ready.$$
mkfifo "$ready" || refuse unwritten "the session directory cannot be written"
exec 3<>"$ready" # open for both before the launcher writes, or its word could be lost
{ printf '' >"launch.$$" && exec 4<>"launch.$$" && rm "launch.$$" && printf '%s' "$3" >&4; } ||
  refuse unwritten "the session directory cannot be written"

# A child subreaper adopts what its descendants leave behind: only so is all of it found again.
# Whoever started us may ignore signals (nohup), and a shell cannot put that right.
set -- /bin/sh run "$1" "$ready"
case $(uname -m) in x86_64) prctl=157 ;; aarch64 | riscv64) prctl=167 ;; *) prctl= ;; esac
if [ "$prctl" ] && command -v perl >/dev/null; then
  # shellcheck disable=SC2016 # perl's own
  set -- perl -e '$SIG{$_} = "DEFAULT" for qw(HUP INT QUIT TERM);
push @ARGV, syscall(shift, 36, 1, 0, 0, 0) ? "" : "perl"; exec @ARGV' "$prctl" "$@"
elif command -v python3 >/dev/null; then
  # Python ignores two signals and names a locale, and the agent would inherit all three.
  set -- python3 -ISc 'import os, signal, sys
for name in "PIPE XFSZ HUP INT QUIT TERM".split():
    signal.signal(getattr(signal, "SIG" + name), signal.SIG_DFL)
os.environ.pop("LC_CTYPE", None)
try:
    import ctypes
    reaper = "" if ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) else "python3"
except Exception:
    reaper = ""
os.execv(sys.argv[1], [*sys.argv[1:], reaper])' "$@"
else
  set -- "$@" ''
fi
# No `&`: a shell without job control makes what it starts so ignore SIGINT for ever. The inner
# setsid finds itself the leader of a session, and so goes on in a child: nobody waits for that.
umask "$usual"
set -- setsid env -i PATH="$PATH" OPTIO_SESSION="$tag" "$@"
# shellcheck disable=SC2016 # the inner shell's
setsid /bin/sh -c 'exec "$@"' sh "$@" <&4 3<&- 4<&- >/dev/null 2>&1
read -r line <&3
rm -f "$ready"
printf '%s\n' "$line"
