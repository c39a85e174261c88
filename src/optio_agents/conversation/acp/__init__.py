"""Any agent that speaks the Agent Client Protocol, behind a `Conversation`.

Promises: a turn counts as completed only where nothing the agent says speaks against it; a second
message never meets a running turn; approvals are chosen by their kind, once, and an agent that
would let a model decide is put into the mode that asks, or refused.

Read `traits` (what is peculiar to whom), `wire` (what we say, and what its requests show), `turns`
(how a turn ended), `dialect` (all of it as facts).
"""
