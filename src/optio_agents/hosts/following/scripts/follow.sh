# LENGTH: look at files for the other end of our stdin, by the program of so many bytes that
# follows there for python3, once it was greeted. Nothing stands before the greeting, which is
# "shell" where no python3 will do. Ends with its stdin.
# shellcheck shell=sh
command -v python3 >/dev/null 2>&1 || { echo shell; exit; }
exec python3 -u -S -E -c '
import os, sys
if sys.version_info < (3, 7):
    os.write(1, b"shell\n")
    sys.exit()
os.write(1, b"python\n")
size, program = int(sys.argv[1]), b""
while len(program) < size:
    piece = os.read(0, size - len(program))
    if not piece:
        sys.exit()
    program += piece
exec(program)
' "$1"
