"""Codex behind a `Conversation`: its own `app-server`, over standard input and output.

Its adapter to another protocol hides failures, so we speak its own, where a turn says whether it
was completed, interrupted or failed, and a retry is told while it lasts.

Read `wire` (what we say, and what its requests show), `dialect` (all of it as facts).
"""
