# DIR TAG VERB EPOCH OWNER JOURNAL NONCE: who dispatches for the session. The owner is the last file
# of owner/, "JOURNAL OWNER", named by its epoch and touched while the owner lives; a link claims
# the next epoch for one of any number of claimants.
#   claim: be it, unless another journal spoke within 60 s; says the epoch. take: even then.
#   touch: still be it. release: no longer.
# Who claims it comes after the start: what its owner finds never started cannot start any more, be
# it a script that is still on its way, from a supervisor that died. The launcher needs the pipe.
# shellcheck shell=sh disable=SC2154
enter "$1" "$2"
last='' file=
for file in owner/[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]; do
  [ ! -f "$file" ] || last=${file#owner/} # whatever else stands there is no lease
done
holder() { # EPOCH -> $journal $owner
  read -r journal owner <<end
$(head -c 4096 "owner/$1" 2>/dev/null | head -n 1)
end
}
case $3 in
  touch | release)
    [ "$last" = "$4" ] || {
      holder "$last"
      refuse taken "$owner"
    }
    if [ "$3" = touch ]; then touch "owner/$4"; else touch -t 197001020000 "owner/$4"; fi
    exit
    ;;
esac
if [ "$last" ]; then
  holder "$last"
  age=$(($(date +%s) - $(stat -c %Y "owner/$last")))
  [ $age -ge 0 ] || touch "owner/$last" # the clock was set back: its silence begins now
  [ "$3" = take ] || [ "$journal" = "$6" ] || [ $age -ge 60 ] || refuse taken "$owner"
fi
[ -p pipe ] || mkfifo pipe 2>/dev/null || [ -p pipe ] ||
  refuse unwritten "the session directory cannot be written"
number=${last#"${last%%[1-9]*}"}
epoch=$(printf %010d $((${number:-0} + 1)))
printf '%s %s\n' "$6" "$5" >".owner.$7.$$" || refuse unwritten "the lease cannot be written"
ln ".owner.$7.$$" "owner/$epoch" 2>/dev/null || lost=yes
rm -f ".owner.$7.$$"
[ ! "${lost-}" ] || {
  [ -e "owner/$epoch" ] || refuse unwritten "the lease cannot be written"
  holder "$epoch"
  refuse taken "$owner"
}
echo "$epoch"
