"""The last lines of an agent's terminal in its log, where a launch that failed says why.

tmux copies the terminal into a file outside of the work directory, only for its user to read. What
reaches the log from there is bounded, is rid of what moves a cursor, and stands indented, so that
no line of a screen reads as an entry: a terminal that shows DONE ends nothing.
"""

import hashlib
import os
import posixpath
import shlex

_LONGEST = 1 << 16  # bytes of a terminal's end that are looked at
_ESCAPES = (
    "\x1b\\[[0-?]*[ -/]*[@-~]",  # colours, moves
    "\x1b\\][^\x07\x1b]*(\x07|\x1b\\\\)",  # titles, links
    "\x1b[ -/]*[0-~]",  # all the short ones
)
ANSI_STRIP_SED = (
    "LC_ALL=C sed -E '" + "; ".join(f"s#{one}##g" for one in _ESCAPES).replace("#", "\x01") + "'"
)
_PLAIN = "LC_ALL=C tr -d '\\000-\\010\\013-\\037\\177'"


def pane_log_path(
    workdir: str,
    engine: str,
    *,
    root_env: str | None = None,
    default_root: str = "/tmp/optio-panes",  # guarded by mkdir_pane_dir_cmd
) -> str:
    """Where the terminal of *engine* is copied to; the variable *root_env* may move it."""
    root = (os.environ.get(root_env) if root_env else None) or default_root
    task = posixpath.dirname(workdir.rstrip("/"))
    which = f"{posixpath.basename(task)}-{hashlib.sha256(task.encode()).hexdigest()[:8]}"
    return f"{root.rstrip('/')}/{which}/{engine}-pane.log"


def mkdir_pane_dir_cmd(pane_log: str) -> str:
    """Shell text that makes its directory, for this user alone; it fails in a foreign one."""
    made = posixpath.dirname(pane_log)
    ours = " && ".join(
        f"[ -O {shlex.quote(path)} ] && [ ! -L {shlex.quote(path)} ]"
        for path in (posixpath.dirname(made), made)
    )
    return f"(umask 077 && mkdir -p {shlex.quote(made)} && {ours})"


def pipe_pane_cmd(tmux_path: str, socket_path: str, session_name: str, pane_log: str) -> str:
    """Shell text that makes tmux copy the terminal to *pane_log* from now on."""
    copy = f"umask 077; exec cat >> {shlex.quote(pane_log)}"
    copy = copy.replace("#", "##").replace("%", "%%")  # tmux fills in both
    tmux = [tmux_path, "-S", socket_path]
    return shlex.join([*tmux, "pipe-pane", "-t", session_name, "-o", copy])


def error_tail_snippet(log_path: str, pane_log: str, engine: str, *, lines: int = 150) -> str:
    """Shell text, to stand in front of more, that writes the terminal's last *lines* to the log."""
    log, pane = shlex.quote(log_path), shlex.quote(pane_log)
    title = shlex.quote(f"--- {engine} tmux pane (tail, ANSI-stripped) ---")
    end = f"tail -c {_LONGEST} {pane} 2>/dev/null | {ANSI_STRIP_SED} | {_PLAIN}"
    shown = f"{end} | tail -n {int(lines)} | sed 's/^/  | /'"
    return f"{{ echo {title}; {shown}; }} >> {log} 2>/dev/null; "
