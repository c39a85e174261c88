# An agent that does as it is told: each argument is one step. Needs a POSIX shell and no more.
#   STATUS… DELIVERABLE… DONE… and other keyword lines    appended to the log
#   say TEXT           a line on stdout                    sleep SECONDS     think
#   write PATH TEXT    a file below deliverables/          binary PATH SIZE  zero bytes in such a file
#   hear               wait for one line of input and repeat it on stdout; at its end, exit 3
#   exit CODE          end here                            run COMMAND       any shell command
log=${OPTIO_LOG:-./optio.log} out=${OPTIO_DELIVERABLES:-./deliverables}
place() { # PATH below deliverables/, whatever it leads with
  path=$out/${1#deliverables/}
  mkdir -p "${path%/*}"
}
for step do
  words=${step#* }
  case $step in
    'say '*) printf '%s\n' "$words" ;;
    'sleep '*) sleep "$words" ;;
    'write '*) place "${words%% *}" && printf '%s\n' "${words#* }" >"$path" ;;
    'binary '*) place "${words%% *}" && head -c "${words#* }" /dev/zero >"$path" ;;
    hear*) IFS= read -r heard || exit 3; printf 'heard: %s\n' "$heard" ;;
    'exit '*) exit "$words" ;;
    'run '*) eval "$words" ;;
    *) printf '%s\n' "$step" >>"$log" ;;
  esac
done
