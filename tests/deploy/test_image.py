"""The Dockerfile: its own lines executed in a Debian that is a folder, and the node started there as its user.

Not a container: no image is pulled, and Docker takes no part. The base is debootstrap's minimal Debian 12 instead of
``debian:bookworm-slim``, which is made of the same packages.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.dockerfile import Builder, Stage, pip_of_this_machine, read_dockerfile

ROOT = Path(__file__).resolve().parents[2]
DEBIAN = Path(os.environ.get("DICOM_NODE_TEST_DEBIAN12", Path.home() / ".cache/dicom-node-tests/debian12"))
CHROOT = shutil.which("chroot") or "/usr/sbin/chroot"  # the image's PATH has no folder for it
UID = 10001

ARGUMENTS, STAGES = read_dockerfile(ROOT / "Dockerfile")
FINAL = STAGES[-1]


def test_the_base_is_the_debian_that_is_tested_and_can_be_pinned() -> None:
    assert ARGUMENTS == {"BASE": "debian:bookworm-slim"}
    assert {stage.base for stage in STAGES} == {"${BASE}"}


def test_everything_installed_from_a_registry_is_locked() -> None:
    runs = [argument for word, argument in STAGES[0].instructions if word == "RUN" and "pip install" in argument]
    assert len(runs) == 2
    assert "--require-hashes --no-deps --only-binary=:all:" in runs[0]
    assert "--no-index" in runs[1]


def test_what_is_copied_is_let_through_and_there() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for word, argument in (each for stage in STAGES for each in stage.instructions):
        if word == "COPY" and not argument.startswith("--from"):
            for source in argument.split()[:-1]:
                assert source.split("/")[0] in allowed
                assert (ROOT / source).exists()


def test_it_runs_as_a_user_without_rights() -> None:
    assert FINAL.last("USER") == f"{UID}:{UID}"
    assert FINAL.argv("ENTRYPOINT") == ["dicom-node"]


class Container:
    """The node of an image, started in namespaces of its own: root folder read-only, its user, no capabilities."""

    def __init__(self, root: Path, env: dict[str, str], stage: Stage, data: Path, log: Path) -> None:
        self.stage, self._root, self.env, self.log = stage, root, env, log
        argv = [*stage.argv("ENTRYPOINT"), *stage.argv("CMD")]
        script = f"""set -e
            mount --rbind {root} {root} && mount --rbind {data} {root}/data && mount -t tmpfs tmpfs {root}/tmp
            mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev
            mount -o remount,bind,ro {root}
            ip link set lo up
            exec {self._user(" ".join(argv))}"""
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "/bin/sh", "-c", script],
                env=env, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def run(self, *argv: str, as_user: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command next to the node: in its root folder, or this machine's command in its network."""
        command = ["/bin/sh", "-c", self._user(" ".join(map(_quoted, argv)))] if as_user else list(argv)
        where = ["nsenter", f"--target={self._child()}", "--net", *(["--mount", "--pid"] if as_user else [])]
        env = self.env if as_user else None
        return subprocess.run([*where, *command], env=env, capture_output=True, text=True, timeout=60, check=False)

    def stop(self) -> int:
        """Stop it as ``docker stop`` does; the exit status of the node."""
        os.kill(self._child(), signal.SIGTERM)
        return self.process.wait(60)

    def _user(self, command: str) -> str:
        drop = f"setpriv --reuid {UID} --regid {UID} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
        inside = f"cd / && exec {drop} env PATH={self.env['PATH']} {command}"
        return f"{CHROOT} {self._root} /bin/sh -c {_quoted(inside)}"

    def _child(self) -> int:
        deadline = time.monotonic() + 30
        while not (children := Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "unshare starts nothing"
            time.sleep(0.1)
        return int(children[0])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    if os.getuid() != 0 or not (DEBIAN / "usr/bin/apt-get").exists() or shutil.which("unshare") is None:
        pytest.skip("no Debian in a folder: as root, sh tests/deploy/install_debian.sh")
    folder = tmp_path_factory.mktemp("image")
    builder = Builder(DEBIAN, ROOT, folder, pip_of_this_machine())
    # Where pip finds torch for the CPU without PyTorch's index, that is not asked; the hash decides in either case.
    arguments = {"TORCH_INDEX": "https://pypi.org/simple"} if os.environ.get("PIP_FIND_LINKS") else {}
    running = None
    try:
        for stage in STAGES:
            root, env = builder.build(stage, arguments)
        data = folder / "data"
        data.mkdir(mode=0o750)
        os.chown(data, UID, UID)
        running = Container(root, env, FINAL, data, folder / "node.log")
        yield running
    finally:
        if running is not None and running.process.poll() is None:
            running.process.kill()
            running.process.wait()
        builder.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_node_of_the_image_is_healthy_and_receives(container: Container) -> None:
    health = container.stage.last("HEALTHCHECK").partition("CMD ")[2]
    deadline = time.monotonic() + 240
    while (checked := container.run("/bin/sh", "-c", " ".join(map(_quoted, json.loads(health))))).returncode:
        assert container.process.poll() is None
        assert time.monotonic() < deadline, checked.stderr
        time.sleep(1)
    echo = (
        "from pynetdicom import AE; ae = AE(); ae.add_requested_context('1.2.840.10008.1.1');"
        "a = ae.associate('127.0.0.1', 11112, ae_title='DICOMNODE'); print(hex(a.send_c_echo().Status)); a.release()"
    )
    answered = container.run(sys.executable, "-c", echo, as_user=False)
    assert answered.stdout == "0x0\n", answered.stderr


@pytest.mark.slow
def test_it_has_no_rights_and_can_write_its_data_only(container: Container) -> None:
    status = container.run("cat", "/proc/self/status").stdout
    fields = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == [str(UID)] * 4
    assert {fields[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"
    for path in ("/opt/node/x", "/config/x", "/etc/x", "/x"):
        assert "Read-only file system" in container.run("touch", path).stderr
    assert container.run("touch", "/data/x").returncode == 0
    assert container.run("python", "-m", "pip", "--version").returncode == 1


@pytest.mark.slow
def test_it_stops_cleanly(container: Container) -> None:
    assert container.stop() == 0
