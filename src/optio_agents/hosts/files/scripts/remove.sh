# PATH: remove a file, or a link; fine when there is none.
# shellcheck shell=sh
[ ! -d "$1" ] || [ -L "$1" ] || refuse directory "is a directory"
said=$(rm -f -- "$1" 2>&1) || refuse unreadable "$said"
