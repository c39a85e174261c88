# DIR TAG REQUEST: how REQUEST was answered, if it was.
# shellcheck shell=sh
enter "$1" "$2"
! plain "answers/$3" || head -c 800000 "answers/$3"
