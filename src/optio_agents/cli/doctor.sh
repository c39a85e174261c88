# What a host has for us, one "NAME VALUE" a line. Reads, changes nothing.
say() { printf '%s %s\n' "$1" "$2"; }
say system "$(uname -sr)"
say shell "${SHELL:-unknown}"
for tool in awk cat cksum dd grep ln mkdir mkfifo mv rm setsid sort stat tail tar tr wc; do
  command -v "$tool" >/dev/null 2>&1 || say missing "$tool"
done
if printf abc | dd bs=3 count=1 iflag=fullblock >/dev/null 2>&1; then say fullblock yes; else say fullblock no; fi
say python3 "$(python3 -c 'import sys; print(".".join(map(str, sys.version_info[:3])))' 2>/dev/null)"
say perl "$(perl -e 'print $]' 2>/dev/null)"
say proc "$([ -r /proc/self/stat ] && echo yes || echo no)"
for download in curl wget python3; do
  command -v "$download" >/dev/null 2>&1 && { say download "$download"; break; }
done
for limit in instances watches; do
  [ -r /proc/sys/fs/inotify/max_user_$limit ] && say inotify_$limit "$(cat /proc/sys/fs/inotify/max_user_$limit)"
done
# shellcheck disable=SC3045 # dash, bash, busybox and zsh all have it
say descriptors "$(ulimit -n)"
kill_user=$(cat /etc/systemd/logind.conf /etc/systemd/logind.conf.d/*.conf 2>/dev/null |
  grep -i '^ *KillUserProcesses *=' | tail -n 1)
case $kill_user in *[yY]es* | *[tT]rue* | *=*1*) say kill_user_processes yes ;; *) say kill_user_processes no ;; esac
state=${XDG_STATE_HOME:-$HOME/.local/state}
while [ ! -d "$state" ]; do state=${state%/*}; [ -n "$state" ] || state=/; done
say free_kib "$(df -Pk "$state" 2>/dev/null | awk 'NR == 2 { print $4 }')"
if [ -w "$state" ]; then say state "$state"; else say state_unwritable "$state"; fi
for agent in codex gemini opencode qwen kimi copilot; do
  command -v $agent >/dev/null 2>&1 && say agent $agent
done
if command -v claude >/dev/null 2>&1; then
  say claude "$(claude --version 2>/dev/null | head -n 1)"
  config=${CLAUDE_CONFIG_DIR:-$HOME/.claude}
  if [ -n "${ANTHROPIC_API_KEY:-}${ANTHROPIC_AUTH_TOKEN:-}${CLAUDE_CODE_OAUTH_TOKEN:-}" ]; then
    say claude_login variable
  elif [ -e "$config/.credentials.json" ]; then
    say claude_login file
  else
    say claude_login none
  fi
fi
:
