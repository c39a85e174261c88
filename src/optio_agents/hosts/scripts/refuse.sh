# How all scripts of ours say no. REASON is a word that `scripting.refusal` makes an error of.
# shellcheck shell=sh
refuse() { # REASON SENTENCE
  trap '' PIPE # whoever listened may be gone; what is to be done on leaving is done all the same
  printf '%s %s\n' "$1" "$2" >&2
  exit 64
}
