# $url to $target ($on_fail: keep or clean) with what this host has; says "exit N" last.
# shellcheck shell=sh disable=SC2154
# The URL goes in as input, never as an argument: it may carry a secret.
part=$target.part-$$
trap 'rm -f -- "$part"; exit 143' HUP INT TERM
mkdir -p -- "$(dirname -- "$target")" || { echo "exit 1"; exit; }

quoted() { printf '%s' "$1" | sed 's/[\\"]/\\&/g'; }

has() { command -v "$1" >/dev/null 2>&1; }

fetch() {
  if has curl; then
    printf 'url = "%s"\n' "$(quoted "$url")" | curl -f -L -# --proto '=http,https' \
      --connect-timeout 30 --speed-limit 1 --speed-time 120 --globoff -o "$part" --config -
  elif has wget && wget --version 2>/dev/null | grep -q GNU; then
    printf '%s\n' "$url" | wget -t 1 -T 120 -O "$part" -i -
  elif has python3; then
    printf '%s\n' "$url" | python3 -u -S -E -c "$python" "$part"
  elif has wget; then # of busybox: it takes an address only as an argument
    wget -T 120 -O "$part" "$url"
  else
    echo 'neither curl, wget nor python3 is installed here' >&2
    return 127
  fi
}

python='
import base64, sys, urllib.parse, urllib.request
url, done = sys.stdin.readline().rstrip("\n"), 0
scheme, place, path, query, _ = urllib.parse.urlsplit(url)
user, _, place = place.rpartition("@")
request = urllib.request.Request(urllib.parse.urlunsplit((scheme, place, path, query, "")))
if user:
    word = base64.b64encode(urllib.parse.unquote_to_bytes(user)).decode()
    request.add_unredirected_header("Authorization", "Basic " + word)
try:
    with urllib.request.urlopen(request, timeout=120) as source, open(sys.argv[1], "wb") as part:
        total = int(source.headers.get("Content-Length") or 0)
        while True:
            data = source.read(1 << 18)
            if not data:
                break
            part.write(data)
            done += len(data)
            if total:
                print("%.1f%%" % (100.0 * done / total))
    if done < total:
        sys.exit("%d of %d bytes came" % (done, total))
except OSError as error:
    sys.exit(str(error))
'

fetch
code=$?
if [ "$code" = 0 ]; then
  mv -f -- "$part" "$target" || code=1
elif [ "$on_fail" = keep ] && [ -f "$part" ]; then
  mv -f -- "$part" "$target"
fi
rm -f -- "$part"
echo "exit $code"
