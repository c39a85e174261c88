# DIR TAG SIZE: the first SIZE bytes of each of the last 200 messages, in order, with a NUL behind.
# shellcheck shell=sh
enter "$1" "$2"
for message in $({ ls in; ls said; } | sort -u | tail -n 200); do
  # it leaves in/ only once it stands in said/
  { plain "in/$message" && head -c "$3" "in/$message" 2>/dev/null; } ||
    { plain "said/$message" && head -c "$3" "said/$message"; }
  printf '\0'
done
