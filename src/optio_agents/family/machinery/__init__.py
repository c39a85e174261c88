"""What does something about an agent for an engine: its prompt, its terminal, its login.

The machinery is built on the hosts of the deployment as they are, `optio_host`'s or ours: it asks
no more of them than the published methods. What it needs beside this package (`aiohttp`, `motor`,
`optio_core`) is the deployment's, and imported when it is used.

Signatures and words on the wire are as published. Where what stood behind them was unsafe or
untrue, it is mended:

    steering        what waits for a journaled agent of ours outlives a kill; a message that could
                    not be said is kept, and is "taken" only once it was said
    seeds           an archive on a host is one user's alone, under a name nobody can foresee; what
                    is laid out is only what was asked for, and nothing through a link; of two
                    changes at once none is lost; a lease goes by the database's clock
    model_probe     a model that says nothing is not usable, and its late answer counts for nobody
    pane_surfacing  a terminal is copied for its user alone, and no line of it reads as an entry
    tmux_input      lines are pasted, not entered one by one; control characters press no keys
    input_listener  a page of another site cannot type; what was typed stands in no log
    fs_grants       a directory that would grant something else than it says is refused
    todos           two steps in the same words are two; what is cancelled is never done
    uploads         a file never lands behind a link that leaves the work directory
    claustrum       a sandbox counts only if it was seen to confine

`claustrum` is compiled from elsewhere, and leases of logins show their worth in an operator's
database: both are built as far as the engines' own tests reach.
"""
