"""What `optio-agents` can be asked to do, a module for each family of verbs; `app` names them.

Read `run` (with `demo`) and `attach` (sessions in this terminal), `act` (one word to a session from
any other), `sessions` (what the journal knows), `watch` (any log, without a session); `prompt`,
`check` and `doctor` need none. A verb imports what it needs when it is used: `--help` stays light.
"""
