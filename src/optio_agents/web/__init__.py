"""The page, and the JSON API that it uses: sessions over HTTP, for people and programs.

What is shown is what `find_session`, its events and the store give; nothing here owns a session.
An agent's text is data in every answer, and text on the page: never markup.

Read `verb` (what is asked for), `server` (what listens, and the one-time link), `guard` (who may
ask, and what every answer carries), `api` (all addresses), `hub` (the journal, read once for all
who look on), `streams` (server-sent events), `conversation` (one of them), `acting` (the verbs),
`files` (what lies on hosts), `turns` (teams); `static/` is the page, without any build.
"""
