# DIR TAG CWD META RUN [LIMIT STOP]: make the session directory of TAG, with the texts of
# its files.
# One whose agent has ended, or never began, is put aside as DIR.ITS-TAG. Safe to repeat.
# shellcheck shell=sh disable=SC2094,SC2154
[ -r /proc/self/stat ] || refuse foreign "agents need a host with /proc"
for tool in setsid env mkfifo; do
  command -v $tool >/dev/null || refuse foreign "agents need $tool on the host"
done
[ -d "$3" ] || refuse missing "there is no directory $3"
task=${1%/*}
[ -d "$task" ] || { mkdir -p "$task" && : >"$task/.optio-task"; } ||
  refuse unwritten "$task cannot be made"
mkdir "$1" 2>/dev/null
enter "$1"
if its_tag && [ "$tag" != "$2" ]; then
  look
  case $state in
    running*) refuse foreign "the agent of the session $tag is still at work in $1" ;;
  esac
  mv "$1" "$1.$tag" && [ "$state" = exited ] || ! standing launcher ||
    refuse foreign "the session $tag is being started in $1"
  mkdir "$1"
  enter "$1"
fi
{ (cd -P .. && private) && private; } ||
  refuse foreign "others may write to $task: chmod 700 it"
chmod 700 .
if [ ! -e tag ]; then
  printf '%s\n' "$2" >".tag.$2" && ln ".tag.$2" tag
  rm -f ".tag.$2"
fi
its_tag || refuse unwritten "the session directory cannot be written"
[ "$tag" = "$2" ] || refuse foreign "the session $tag is being started in $1"
{
  mkdir -p in said answers owner && { [ -p bell ] || mkfifo bell; } &&
    : >>stdout && : >>stderr &&
    printf '%s' "$5" >run.new && mv run.new run &&
    { [ $# -eq 5 ] || { printf '%s\n' "$6" >limit && printf '%s' "$7" >stop; }; } &&
    printf '%s\n' "$4" >meta.new && mv meta.new meta
} || refuse unwritten "the session directory cannot be written"
