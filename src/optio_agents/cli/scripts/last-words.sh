# last-words.sh LOG...: behind a NUL for each, what stood last in that log: a few entries.
# shellcheck shell=sh
for log; do
    printf '\0'
    if [ -f "$log" ] && [ ! -L "$log" ]; then
        tail -c 8192 -- "$log" | tr -d '\0' | LC_ALL=C grep -a '^[A-Z_]*:' | tail -n 20
    fi
done
