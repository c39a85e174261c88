"""Hundreds of sessions whose world breaks, and books that must balance afterwards.

    python -m tests.stress            500 local and 100 SSH sessions, for some ten minutes
    python -m tests.stress --quick    a few of each, for some twenty seconds

On a busy machine it takes longer, and balances all the same: it waits until everything has broken
once and all sessions have ended, and says every half minute how far that is. An hour is a hang.

Crews (`circumstances`) are supervisors in processes of their own, each with many sessions of one
store; agents (`agent`) write down on another disk what was taken from them and what they heard.
Faults come up at named steps inside a supervisor (`faults`) or from outside (`director`). At the
end `books` compares what everybody wrote down.
"""
