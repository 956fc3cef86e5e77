#!/bin/sh
# Put npm's oidc-provider (MIT, 3.4 MB) under build/oidc-provider, for tests; where it cannot be had, they are skipped.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
folder="${1:-$here/../../../build/oidc-provider}"
if ! command -v npm >/dev/null 2>&1; then
    echo "Node.js and npm are missing, tests/access/test_oidc_provider.py will be skipped; as root: apt-get install npm" >&2
    exit 1
fi
mkdir -p "$folder"
if ! cmp -s "$here/package-lock.json" "$folder/package-lock.json" || [ ! -d "$folder/node_modules" ]; then
    cp "$here/package.json" "$here/package-lock.json" "$folder"
    if ! npm ci --fetch-retries=1 --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error >&2; then
        rm -rf "$folder/node_modules"
        exit 1
    fi
fi
