#!/bin/sh
# Put a minimal Debian 12 into a folder, for the test of the Dockerfile: 250 MB; as root.
set -eu
folder="${1:-${DICOM_NODE_TEST_DEBIAN12:-$HOME/.cache/dicom-node-tests/debian12}}"
[ -x "$folder/usr/bin/apt-get" ] && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "Only root can put a Debian into a folder; the Dockerfile is not tested." >&2
    exit 1
fi
command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq debootstrap >/dev/null; }
mkdir -p "$(dirname "$folder")"
rm -rf "$folder.part"  # of an earlier time that was interrupted
debootstrap --variant=minbase bookworm "$folder.part" >"$folder.log" 2>&1 || {
    tail -n 3 "$folder.log" >&2
    exit 1
}
mv "$folder.part" "$folder"
