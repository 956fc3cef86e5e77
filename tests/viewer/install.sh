#!/bin/sh
# Put OHIF's built site, a driver for Chromium and dcmjs under build/viewer, for tests; from the npm registry.
# Where it cannot be had, say so and end with 1: the tests that need it are skipped.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
folder="${1:-$here/../../build/viewer}"
ohif="$(sed -n 's/.*@ohif\/app@\([0-9.]*\) .*/\1/p' "$here/../../config/ohif/Dockerfile")"
ohif_sha512=5997719a9986eeba85816f5924b71b82bdd70ad2e2d4a0cd3e831a798e4f3deea3e06e1f8c48e393271933a0ba664d85f3b04ac457e9abe8dde715d907d13c10

if ! command -v npm >/dev/null 2>&1; then
    echo "Node.js and npm are missing, tests/viewer will be skipped; on Debian or Ubuntu, as root: apt-get install npm" >&2
    exit 1
fi
if ! command -v chromium >/dev/null 2>&1; then
    if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends chromium >/dev/null
    else
        echo "Chromium is missing, the tests that open a viewer will be skipped; as root: apt-get install chromium" >&2
    fi
fi
mkdir -p "$folder"
if ! cmp -s "$here/package-lock.json" "$folder/package-lock.json" || [ ! -d "$folder/node_modules" ]; then
    cp "$here/package.json" "$here/package-lock.json" "$folder"
    if ! npm ci --fetch-retries=1 --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error >&2; then
        rm -rf "$folder/node_modules"
        exit 1
    fi
fi
if [ ! -f "$folder/ohif-$ohif/index.html" ]; then
    downloaded="$(mktemp -d "$folder/download.XXXXXX")"
    trap 'rm -rf "$downloaded"' EXIT
    npm pack --fetch-retries=1 "@ohif/app@$ohif" --pack-destination "$downloaded" --loglevel=error >/dev/null
    echo "$ohif_sha512  $downloaded/ohif-app-$ohif.tgz" | sha512sum --check --quiet
    # Source maps, and a machine-learning runtime that only a tool of the viewer loads, are 180 of 204 MB.
    tar xzf "$downloaded/ohif-app-$ohif.tgz" -C "$downloaded" --exclude='*.map' --exclude='package/dist/ort' package/dist
    mv "$downloaded/package/dist" "$folder/ohif-$ohif"
fi
