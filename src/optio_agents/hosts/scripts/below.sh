# TOP DIR: what there is of the directory DIR really is TOP, or lies below it; else it ends with 3.
# shellcheck shell=sh
top=$(cd -P -- "$1" && pwd -P) || exit 0
at=$2
until [ -d "$at" ] || [ ! "$at" ]; do at=${at%/*}; done
at=$(cd -P -- "$at/" && pwd -P) || exit 0
case ${at%/}/ in "${top%/}"/*) ;; *) exit 3 ;; esac
