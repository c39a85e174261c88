"""Sent to hosts as source: nothing newer than Python 3.7, and no import beyond the standard one.

`far_end` follows any number of files for us there; `python_end` of the package above talks to it.
"""
