#!/bin/sh
# Install the real DICOM peers that the tests talk to, where that can be done; say what is missing elsewhere.
# The heaviest is Chromium, for the tests of the page: 113 MB to download, 414 MB on disk.
set -eu
missing=""
for pair in dcmdump:dcmtk Orthanc:orthanc dciodvfy:dicom3tools dcm2niix:dcm2niix nginx:nginx-light DicomSRValidator:pixelmed-apps chromium:chromium faketime:faketime; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || missing="$missing orthanc-dicomweb"
command -v initdb >/dev/null 2>&1 || [ -n "$(ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null)" ] || missing="$missing postgresql"
for pair in ip:iproute2 nft:nftables; do
    [ -e "/usr/sbin/${pair%%:*}" ] || [ -e "/sbin/${pair%%:*}" ] || missing="$missing ${pair##*:}"
done
[ -e /usr/share/orthanc/plugins/libOrthancPython.so ] || missing="$missing orthanc-python"
[ -n "$missing" ] || exit 0
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
    # Debian's packages start a system-wide Orthanc, PostgreSQL and nginx; tests start their own.
    if command -v service >/dev/null 2>&1; then
        for server in orthanc postgresql nginx; do service "$server" stop >/dev/null 2>&1 || true; done
    fi
else
    echo "real peers are missing, their tests will be skipped:$missing" >&2
    echo "on Debian or Ubuntu, as root: apt-get install$missing" >&2
fi
