# pack HOME ARCHIVE NAME…: what there is of these below HOME, as a tar.gz, into ARCHIVE.
# ARCHIVE is there, empty, and nobody else may read it.
archive=$2
cd "$1" || exit
shift 2
names=$#
for name in "$@"; do
    if [ -e "./$name" ] || [ -L "./$name" ]; then set -- "$@" "$name"; fi
done
shift "$names"
[ $# -gt 0 ] || {
    echo "none of it is there" >&2
    exit 1
}
tar -czf - -- "$@" >"$archive"
