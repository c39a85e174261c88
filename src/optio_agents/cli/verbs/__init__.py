"""What `optio-agents` can be asked to do, a module for each family of verbs; `app` names them.

Read `run` (with `demo`) and `attach` (sessions in this terminal), `act` (one word to a session from
any other), `sessions` (what the journal knows), `files` (what lies on hosts), `watch` (any log,
without a session); `teams` and `turns`; `prompt` and `doctor` need none of it. A verb imports what
it needs when it is used: `--help` stays light.
"""
