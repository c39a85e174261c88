"""Files to and from a host: streamed in bounded memory, landed whole or not at all.

Every file lands under a name of its own and is renamed once it is whole, here (`atomic`) and there
(`scripts/put.sh`), so that nobody ever reads a half. Every file of a host is opened first and
judged by what was opened (`confined`), so that a link that is swapped meanwhile changes nothing.

Read `atomic`, `confined`, `fetch` (from a host) and `put` (to it), `progress`, then what is made of
them: `archive` (the work directory as a stream) and `download` (a host fetches by itself).
"""
