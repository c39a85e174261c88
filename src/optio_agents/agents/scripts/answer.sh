# DIR TAG REQUEST LENGTH NONCE: an answer to REQUEST on standard input, behind a line "LENGTH BY".
# The first one wins and is said; whoever comes later says it again, should the winner have died
# before it could, and hears "lost" and what won.
# shellcheck shell=sh disable=SC2154
enter "$1" "$2"
trap 'rm -f "answers/.$5.$$" "in/.$5.$$"' EXIT
trap 'exit 143' HUP INT TERM
answer=answers/$3 name=answer-$3 outcome=lost
if [ ! -e "$answer" ]; then
  if [ -e exit ] || [ -e closed ]; then refuse closed "the agent takes no more input"; fi
  receive "answers/.$5.$$" "$4"
  if ln "answers/.$5.$$" "$answer" 2>/dev/null; then outcome=won; fi
  rm -f "answers/.$5.$$"
  [ -e "$answer" ] || refuse unwritten "the answer cannot be written there"
fi
plain "$answer" || refuse foreign "what stands for the answer is no file"
length=$(head -c 20 "$answer" 2>/dev/null | head -n 1) length=${length%% *}
case $length in '' | *[!0-9]* | ????????*) refuse foreign "what stands for the answer is none" ;; esac
if [ ! -e "in/$name" ] && [ ! -e "said/$name" ]; then
  tail -c "$length" "$answer" >"in/.$5.$$" || : >"in/.$5.$$"
  whole "in/.$5.$$" "$length" || { rm -f "in/.$5.$$"; refuse unwritten "the answer cannot be written there"; }
  say "in/.$5.$$" "$name"
fi
echo $outcome
head -c 800000 "$answer"
