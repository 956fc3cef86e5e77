#!/bin/sh
# Put a Debian 13 with Orthanc 1.12 (which has labels) into a folder, for tests: about two minutes and 420 MB; as root.
set -eu
folder="${1:-${DICOM_NODE_TEST_DEBIAN13:-$HOME/.cache/dicom-node-tests/debian13}}"
if [ -x "$folder/usr/sbin/Orthanc" ]; then
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "Only root can put an Orthanc with labels into a folder; its tests are skipped." >&2
    exit 1
fi
command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq debootstrap >/dev/null; }
mkdir -p "$(dirname "$folder")"
rm -rf "$folder.part"  # of an earlier time that was interrupted
debootstrap --variant=minbase --include=orthanc,orthanc-dicomweb,orthanc-python trixie "$folder.part" >"$folder.log" 2>&1 || {
    tail -n 3 "$folder.log" >&2
    exit 1
}
mv "$folder.part" "$folder"
