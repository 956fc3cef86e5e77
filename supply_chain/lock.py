"""Write and read the lock files of the shipped environment: every package with its version and hashes.

``python -m supply_chain.lock`` resolves the extra ``server`` of pyproject.toml with constraints.txt (uv, which asks
PyPI) and writes three files below ``locks/``: ``node.txt`` holds everything but torch, ``torch-cpu.txt`` and
``torch-cuda.txt`` hold the two builds of it, of which an environment takes one. docs/supply-chain.md says how they are
used.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "locks"
NODE, TORCH_CPU, TORCH_CUDA = (FOLDER / name for name in ("node.txt", "torch-cpu.txt", "torch-cuda.txt"))
EXCLUDED = FOLDER / "excluded.txt"
EXTRA = "server"
OLDEST_PYTHON = "3.11"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
HEADER = "# {what}\n# Linux, CPython {python} and newer. Written by `make lock`; docs/supply-chain.md.\n"
_CUDA = re.compile(r"torch|triton|nvidia-.+|cuda-.+")
_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)(?:\s*;\s*(?P<marker>[^\\]+?))?\s*\\?")
_HASH = re.compile(r"\s+--hash=(?P<hash>sha256:[0-9a-f]{64})\s*\\?")
# What `tool.uv.environments` asks for is true wherever the lock is used; the header says so.
_ALWAYS = ("platform_python_implementation == 'CPython'", "sys_platform == 'linux'", "implementation_name != 'pypy'",
           "implementation_name != 'PyPy'")  # fmt: skip


class LockError(Exception):
    """A lock file cannot be read or written; the message says why."""


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One package of a lock file.

    Attributes
    ----------
    name
        Normalised as PyPI compares names (PEP 503).
    marker
        Environments that need it (PEP 508); empty for all.
    hashes
        ``sha256:`` and the hexadecimal digest of every file that may be installed.
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    @property
    def text(self) -> str:
        """The package as pip reads it."""
        marker = f" ; {self.marker}" if self.marker else ""
        return " \\\n    ".join((f"{self.name}=={self.version}{marker}", *(f"--hash={each}" for each in self.hashes)))


def read_lock(path: Path) -> tuple[LockedPackage, ...]:
    """Return the packages of a lock file; `LockError` for a line that is no pin, no hash and no comment."""
    packages: list[LockedPackage] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if (found := _HASH.fullmatch(line)) is not None and packages:
            last = packages.pop()
            packages.append(LockedPackage(last.name, last.version, last.marker, (*last.hashes, found["hash"])))
        elif (found := _PIN.fullmatch(line)) is not None:
            packages.append(LockedPackage(_normal(found["name"]), found["version"], _marker(found["marker"] or ""), ()))
        else:
            raise LockError(f"{path}, line {number}: neither a package with its version nor a hash: {line.strip()!r}")
    return tuple(packages)


def write_locks() -> None:
    """Resolve the shipped environment and write its three lock files; versions that are locked stay where they can."""
    packages = _resolved(["pyproject.toml", "--extra", EXTRA, "--constraints", "constraints.txt",
                          "--excludes", str(EXCLUDED)], keep=(NODE, TORCH_CUDA))  # fmt: skip
    (torch,) = (package for package in packages if package.name == "torch")
    with_cuda = [package for package in packages if _CUDA.fullmatch(package.name)]
    _write(NODE, "The shipped environment without torch.", [each for each in packages if each not in with_cuda])
    _write(TORCH_CUDA, "torch from PyPI, which brings CUDA.", with_cuda)
    cpu_version = f"{torch.version}+cpu"
    if not TORCH_CPU.exists() or [each.version for each in read_lock(TORCH_CPU)] != [cpu_version]:
        found = _resolved(["-", "--no-deps", "--default-index", TORCH_CPU_INDEX], stdin=f"torch=={cpu_version}\n")
        _write(TORCH_CPU, f"torch without CUDA, from {TORCH_CPU_INDEX}", found)


def _resolved(arguments: Sequence[str], *, keep: Sequence[Path] = (), stdin: str = "") -> tuple[LockedPackage, ...]:
    """Let uv resolve, preferring the versions in ``keep``; no address of an index comes back."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.txt")
        out.write_text("".join(path.read_text(encoding="utf-8") for path in keep if path.exists()), encoding="utf-8")
        options = ("--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes", "--no-header",
                   "--no-annotate", "--quiet", "--output-file", str(out))  # fmt: skip
        command = [sys.executable, "-m", "uv", "pip", "compile", *arguments, *options]
        ran = subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, check=False)  # noqa: S603
        if ran.returncode:
            raise LockError(f"uv could not resolve {arguments[0]}; nothing was written:\n{ran.stderr.strip()}")
        return read_lock(out)


def _write(path: Path, what: str, packages: Iterable[LockedPackage]) -> None:
    text = HEADER.format(what=what, python=OLDEST_PYTHON) + "".join(f"{package.text}\n" for package in packages)
    path.write_text(text, encoding="utf-8")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _marker(marker: str) -> str:
    """Leave out the parts of a marker that are true wherever the lock is used."""
    parts = [part.strip() for part in marker.split(" and ")]
    if any(part.count("(") != part.count(")") for part in parts):  # an "and" within parentheses
        return marker.strip()
    return " and ".join(part for part in parts if part and part not in _ALWAYS)


if __name__ == "__main__":
    try:
        write_locks()
    except LockError as error:
        sys.exit(str(error))
