# doctor.sh: what a host has for us, one "NAME VALUE" a line. Reads, changes nothing.
# shellcheck shell=sh
say() { printf '%s %s\n' "$1" "$2"; }
say system "$(uname -sr)"
say shell "${SHELL:-unknown}"
for tool in awk cat cksum dd grep ln mkdir mkfifo mv rm setsid sort stat tail tar tr wc; do
  command -v "$tool" >/dev/null 2>&1 || say missing "$tool"
done
say python3 "$(python3 -c 'import sys; print(".".join(map(str, sys.version_info[:3])))' 2>/dev/null)"
say perl "$(perl -e 'print $]' 2>/dev/null)"
say proc "$([ -r /proc/self/stat ] && echo yes || echo no)"
for download in curl wget python3; do
  command -v "$download" >/dev/null 2>&1 && { say download "$download"; break; }
done
[ -r /proc/sys/fs/inotify/max_user_instances ] &&
  say inotify_instances "$(cat /proc/sys/fs/inotify/max_user_instances)"
# shellcheck disable=SC3045 # dash, bash, busybox and zsh all have it
say descriptors "$(ulimit -n)"
kill_user=$(cat /etc/systemd/logind.conf /etc/systemd/logind.conf.d/*.conf 2>/dev/null |
  grep -i '^ *KillUserProcesses *=' | tail -n 1)
case $kill_user in *[yY]es* | *[tT]rue* | *=*1*) say kill_user_processes yes ;; *) say kill_user_processes no ;; esac
state=${XDG_STATE_HOME:-$HOME/.local/state}
while [ ! -d "$state" ]; do state=${state%/*}; [ -n "$state" ] || state=/; done
say free_kib "$(df -Pk "$state" 2>/dev/null | awk 'NR == 2 { print $4 }')"
[ -w "$state" ] || say state_unwritable "$state"
PATH=$OPTIO_SEARCHED # nothing but agents is looked for from here on
for agent in codex gemini opencode qwen kimi copilot aider amp crush cursor-agent droid goose; do
  command -v $agent >/dev/null 2>&1 || continue
  case $agent in # where each keeps its login, as far as that is known
    codex) login=${CODEX_HOME:-$HOME/.codex}/auth.json ;;
    gemini | qwen) login=$HOME/.$agent/oauth_creds.json ;;
    opencode) login=${XDG_DATA_HOME:-$HOME/.local/share}/opencode/auth.json ;;
    *) login= ;;
  esac
  if [ ! "$login" ] || [ -e "$login" ]; then say agent $agent; else say agent_out $agent; fi
done
for key in ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN CLAUDE_CODE_OAUTH_TOKEN OPENAI_API_KEY GEMINI_API_KEY GH_TOKEN; do
  for file in .profile .bash_profile .bashrc .zprofile .zshenv .zshrc; do
    grep -q "^[^#]*$key=." "$HOME/$file" 2>/dev/null && say profile_key "$key ~/$file"
  done
done
if command -v claude >/dev/null 2>&1; then
  say claude "$(claude --version 2>/dev/null | head -n 1)"
  config=${CLAUDE_CONFIG_DIR:-$HOME/.claude}
  if [ -e "$config/.credentials.json" ] ||
    security find-generic-password -s "Claude Code-credentials" >/dev/null 2>&1; then
    say claude_login file
  else
    say claude_login none
  fi
fi
:
