"""The lock files hold what the shipped environment needs, all of it, with hashes."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from supply_chain.lock import EXCLUDED, EXTRA, FOLDER, NODE, ROOT, TORCH_CPU, TORCH_CUDA, LockError, read_lock

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
NOT_CONSTRAINED = {"setuptools"}  # a checkout builds with the one that it has


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(lines: list[str], extras: set[str], found: set[str]) -> set[str]:
    """Names of all that these requirements install here, told by what is installed rather than by the lock."""
    excluded = {line for line in EXCLUDED.read_text().splitlines() if not line.startswith("#")}
    for requirement in map(Requirement, lines):
        name = normal(requirement.name)
        if requirement.marker is not None and not any(
            requirement.marker.evaluate({"extra": extra}) for extra in (extras or {""})
        ):
            continue
        if name == "dicom-node":
            for extra in requirement.extras:
                needed(PROJECT["optional-dependencies"][extra], set(), found)
        elif name not in excluded and (name not in found or requirement.extras):
            found.add(name)
            needed(requires(name) or [], requirement.extras | {""}, found)
    return found


def test_the_lock_holds_what_the_server_needs_and_nothing_else() -> None:
    wanted = needed([*PROJECT["dependencies"], f"dicom-node[{EXTRA}]"], set(), set())
    locked = [package for path in (NODE, TORCH_CPU) for package in read_lock(path)]
    here = {
        package.name
        for package in locked
        if not package.marker or Requirement(f"x; {package.marker}").marker.evaluate()
    }
    wanted -= {name for name in wanted if re.fullmatch(r"nvidia-.*|cuda-.*|triton", name)}
    assert here == wanted, "run: make lock"


@pytest.mark.parametrize("path", [NODE, TORCH_CPU, TORCH_CUDA], ids=lambda path: path.name)
def test_every_package_has_hashes_and_the_version_of_the_constraints(path: Path) -> None:
    constrained = {normal(name): version for name, version in CONSTRAINED.items()}
    for package in read_lock(path):
        assert package.hashes, package.name
        assert len(set(package.hashes)) == len(package.hashes), package.name
        if path != TORCH_CUDA or package.name == "torch":
            version = constrained.get(package.name, package.version if package.name in NOT_CONSTRAINED else None)
            assert package.version.removesuffix("+cpu") == version, f"{package.name}: run make lock"


def test_no_file_names_an_index_other_than_the_one_of_torch() -> None:
    text = "".join(path.read_text() for path in FOLDER.iterdir())
    assert set(re.findall(r"https?://[^/\s]+", text)) == {"https://download.pytorch.org"}
    assert "--index" not in text
    assert "--find-links" not in text


def test_no_version_of_the_lock_is_written_twice() -> None:
    names = [package.name for path in (NODE, TORCH_CUDA) for package in read_lock(path)]
    assert sorted(names) == sorted(set(names))


def test_what_is_no_pin_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "lock.txt"
    path.write_text("# a comment\nnumpy==2.0 \\\n    --hash=sha256:" + "0" * 64 + "\nscipy>=1\n")
    with pytest.raises(LockError, match=r"lock\.txt, line 4: .*scipy>=1"):
        read_lock(path)
