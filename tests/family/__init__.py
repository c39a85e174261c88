"""Whether the engine packages of the optio family run on us as on the published package.

    python -m tests.family              everything; the table goes into the guide with --write
    python -m tests.family codex grok   these engines alone

Their packages are installed from the index, pinned, in two environments of their own in the cache:
one with the published optio-agents, one with ours in its place. In both every module is imported,
and the tests that their source distributions carry are run, on the loopback alone. A test counts
that passes on the published package: what needs an agent's binary, or a stand-in that the
distributions leave out, passes there no more than here.
"""
