#!/bin/sh
# Put stock nnssl under build/nnssl, in a Python 3.12 of its own, for tests/nnssl. nnssl is on no package index: it comes
# from its repository, or from a checkout that NNSSL_SOURCE names. NNSSL_PYTHON names another Python, TORCH_INDEX an index
# with torch for processors only (1 GB less). Where it cannot be had, say so and end with 1: the tests are skipped.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
folder="${1:-$here/../../build/nnssl}"
commit=7044864404315536e92e670ef2f0ca24f11e6175
source="${NNSSL_SOURCE:-git+https://github.com/MIC-DKFZ/nnssl@$commit}"

[ -f "$folder/.installed" ] && exit 0
python=""
for one in ${NNSSL_PYTHON:-python3.12 python3.13 python3}; do
    if "$one" -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then
        python="$one"
        break
    fi
done
if [ -z "$python" ]; then
    echo "no Python 3.12 or newer, tests/nnssl will be skipped; name one with NNSSL_PYTHON=..." >&2
    exit 1
fi
rm -rf "$folder"
"$python" -m venv "$folder"
pip="$folder/bin/python -m pip --quiet --disable-pip-version-check"
# nnssl first: where it cannot be had, nothing large was downloaded.
if ! $pip install --no-deps "$source"; then
    rm -rf "$folder"
    echo "nnssl cannot be had from $source, tests/nnssl will be skipped" >&2
    exit 1
fi
# What its fingerprint, plans, preprocessing and datasets import; the last three are for the modules of the trainers, whose
# loaders benchmarks/loaders times. Training needs more.
$pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
    torch acvl-utils batchgenerators blosc2 dynamic-network-architectures loguru matplotlib nibabel "numpy>=2" pandas \
    scikit-image scipy SimpleITK tifffile tqdm deprecated pytorch-msssim seaborn
touch "$folder/.installed"
