# unpack HOME ARCHIVE: lay what is in ARCHIVE, a tar, below HOME; for this user alone.
umask 077
mkdir -p "$1" && tar -xof "$2" -C "$1"
