"""The systemd units: accepted by systemd, locked down as the docs say, and started with commands that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest
from typer.main import get_command

from dicom_node.cli import app
from dicom_node.settings.secrets import FOLDER_PREFIX
from dicom_node.store import PARTS

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "config" / "systemd"
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
SERVICES = {part: f"dicom-node-{part}.service" if part != "work" else "dicom-node-work@.service" for part in PARTS}
SYSTEM_UNITS = Path("/lib/systemd/system")

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None or not SYSTEM_UNITS.is_dir(), reason="systemd-analyze is not installed"
)


def unit(name: str) -> RawConfigParser:
    parser = RawConfigParser(strict=False, interpolation=None, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read(UNITS / name)
    return parser


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder with systemd's own units and ours where the docs put them."""
    root = tmp_path_factory.mktemp("machine")
    shutil.copytree(SYSTEM_UNITS, root / "usr/lib/systemd/system", symlinks=True)
    (root / "lib").symlink_to("usr/lib")
    ours = root / "etc/systemd/system"
    ours.mkdir(parents=True)
    for path in (*UNITS.glob("*.service"), *UNITS.glob("*.target")):
        shutil.copy(path, ours)
    shutil.copytree(UNITS / "dicom-node-.service.d", ours / "dicom-node-.service.d")
    command = root / "opt/dicom-node/bin/dicom-node"
    command.parent.mkdir(parents=True)
    shutil.copy("/bin/true", command)
    return root


def instance(name: str) -> str:
    return name.replace("@.", "@1.")


@needs_systemd
def test_systemd_accepts_every_unit(machine: Path) -> None:
    names = ["dicom-node.target", *map(instance, SERVICES.values())]
    found = run("systemd-analyze", "verify", f"--root={machine}", *names)
    assert (found.returncode, found.stderr) == (0, "")


@needs_systemd
def test_systemd_refuses_a_unit_with_a_wrong_line(machine: Path) -> None:
    wrong = machine / "etc/systemd/system/dicom-node-wrong.service"
    wrong.write_text((UNITS / SERVICES["web"]).read_text().replace("MemoryMax=4G", "MemoryMax=lots"))
    try:
        assert "Invalid memory limit 'lots'" in run("systemd-analyze", "verify", f"--root={machine}", wrong.name).stderr
    finally:
        wrong.unlink()


@needs_systemd
@pytest.mark.parametrize("part", PARTS)
def test_the_score_is_the_one_in_the_docs(machine: Path, part: str) -> None:
    found = run("systemd-analyze", "security", "--offline=true", "--no-pager", f"--root={machine}",
                instance(SERVICES[part]))  # fmt: skip
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", found.stdout)
    assert score is not None, found.stderr
    assert float(score[1]) < 2.0
    assert f"| `{SERVICES[part]}` | {score[1]} |" in PAGE


@needs_systemd
def test_the_user_and_the_folders_are_made(machine: Path) -> None:
    if shutil.which("systemd-sysusers") is None or shutil.which("systemd-tmpfiles") is None:
        pytest.skip("systemd-sysusers is not installed")
    for name in ("passwd", "group", "shadow", "gshadow"):
        (machine / "etc" / name).write_text("root:x:0:0:root:/root:/bin/sh\n" if name == "passwd" else "")
    made = run("systemd-sysusers", f"--root={machine}", str(UNITS / "dicom-node.sysusers.conf"))
    assert made.returncode == 0, made.stderr
    assert "dicom-node:" in (machine / "etc/passwd").read_text()
    made = run("systemd-tmpfiles", f"--root={machine}", "--create", str(UNITS / "dicom-node.tmpfiles.conf"))
    assert made.returncode == 0, made.stderr
    assert (machine / "etc/dicom-node").stat().st_mode & 0o7777 == 0o750
    assert (machine / "etc/dicom-node/secrets").stat().st_mode & 0o7777 == 0o700


@pytest.mark.parametrize("part", PARTS)
def test_each_unit_starts_its_part_of_the_node(part: str) -> None:
    words = unit(SERVICES[part])["Service"]["ExecStart"].split()
    assert words == ["/opt/dicom-node/bin/dicom-node", part, "-c", "/etc/dicom-node/node.yaml"]
    assert part in get_command(app).commands  # type: ignore[attr-defined]


def test_the_target_wants_every_part() -> None:
    wanted = unit("dicom-node.target")["Unit"]["Wants"].split()
    assert sorted(wanted) == sorted(map(instance, SERVICES.values()))


def test_secrets_are_loaded_from_the_folder_that_is_made_for_them() -> None:
    name, folder = unit("dicom-node-.service.d/10-service.conf")["Service"]["LoadCredential"].split(":")
    assert f"{name}_" == FOLDER_PREFIX
    made = [line.split() for line in (UNITS / "dicom-node.tmpfiles.conf").read_text().splitlines()]
    assert ["d", folder, "0700", "root", "root", "-"] in made
