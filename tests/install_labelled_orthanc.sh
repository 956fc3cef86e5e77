#!/bin/sh
# Put a Debian 13 with Orthanc 1.12 (which has labels) into a folder, for tests: about two minutes and 420 MB; as root.
set -eu
folder="${1:-${DICOM_NODE_TEST_DEBIAN13:-$HOME/.cache/dicom-node-tests/debian13}}"
if [ -x "$folder/usr/sbin/Orthanc" ]; then
    exit 0
fi
command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq debootstrap >/dev/null; }
mkdir -p "$(dirname "$folder")"
debootstrap --variant=minbase --include=orthanc,orthanc-dicomweb,orthanc-python trixie "$folder"
