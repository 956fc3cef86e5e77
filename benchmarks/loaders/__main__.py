"""Compare loaders and steps: ``python -m benchmarks.loaders --data ../shared/data --work build/bench-loaders``.

Programs that are not there are skipped by name. nnssl: ``make peers-nnssl``. AnatoMask: a checkout that
``ANATOMASK_SOURCE`` names. Each runs alone, one after the other, ``--rounds`` times in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.loaders.volumes import prepare_nnssl, prepare_nnunet, unpack_for_anatomask, write_heads

ROOT = Path(__file__).parents[2]
PRETRAIN = "nnunetv2/training/nnUNetTrainer/variants/pretrain"  # of AnatoMask's checkout


@dataclass(frozen=True, slots=True)
class Program:
    """One thing to run: its name in the table, its command, and what it needs in its environment."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def main() -> None:
    """Prepare, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with volumes.csv")
    parser.add_argument("--work", type=Path, required=True, help="folder for prepared volumes")
    parser.add_argument("--patch", type=int, default=96, help="voxels along each axis, at 1 mm")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    work = options.work.resolve()
    write_heads(options.data, work)
    loaders, steps = _loaders(work, options.patch), _steps()
    rates: dict[str, list[dict[str, float]]] = {one.name: [] for one in loaders}
    for _ in range(options.rounds):
        for one in loaders:
            rates[one.name].append(_run(one))
            sys.stderr.write(f"{one.name}: {rates[one.name][-1]}\n")
    found = {name: {key: median(row[key] for row in rows) for key in rows[0]} for name, rows in rates.items()}
    seconds = {one.name: _run(one) for one in steps}
    (work / "summary.json").write_text(json.dumps({"loaders": found, "steps": seconds}, indent=1) + "\n", "utf-8")
    print(report(found, seconds))


def _loaders(work: Path, patch: int) -> list[Program]:
    here, side = "benchmarks.loaders", str(patch)
    found = [
        Program(f"ours, {method}", [sys.executable, "-m", f"{here}.ours", str(work), method, side])
        for method in ("volume-fusion", "anatomask")
    ]
    if python := nnssl_python():
        environment = prepare_nnssl(work, python)
        found += [
            Program(f"nnssl, {method}", [str(python), "-m", f"{here}.peer_nnssl", method, side], environment)
            for method in ("volume-fusion", "mae")
        ]
    cases = prepare_nnunet(work)
    found.append(
        Program("nnU-Net, AnatoMask's augmentation", [sys.executable, "-m", f"{here}.peer_nnunet", str(cases), side])
    )
    if source := anatomask_source():
        folder = unpack_for_anatomask(cases, work)
        command = [sys.executable, "-m", f"{here}.peer_anatomask", str(folder), side]
        found.append(Program("AnatoMask", command, {"PYTHONPATH": f"{source}{os.pathsep}{ROOT}"}))
    return found


def _steps() -> list[Program]:
    command = [sys.executable, "-m", "benchmarks.loaders.steps"]
    found = []
    if python := nnssl_python():
        (packages,) = (python.parents[1] / "lib").glob("python3*/site-packages")
        # nnssl alone comes from there: of all else this Python has its own.
        found.append(Program("volume-fusion", [*command, "volume-fusion"], {"NNSSL_PACKAGES": str(packages)}))
    if source := anatomask_source():
        found.append(
            Program("anatomask", [*command, "anatomask"], {"PYTHONPATH": f"{ROOT}{os.pathsep}{source / PRETRAIN}"})
        )
    return found


def nnssl_python() -> Path | None:
    """Return the Python that has nnssl."""
    folder = Path(os.environ.get("DICOM_NODE_TEST_NNSSL", ROOT / "build" / "nnssl"))
    if (folder / ".installed").exists():
        return folder / "bin" / "python"
    sys.stderr.write(f"no nnssl in {folder}: make peers-nnssl\n")
    return None


def anatomask_source() -> Path | None:
    """Return the checkout of AnatoMask."""
    named = os.environ.get("ANATOMASK_SOURCE")
    if named and (Path(named) / PRETRAIN).is_dir():
        return Path(named)
    sys.stderr.write("no checkout of AnatoMask: name one with ANATOMASK_SOURCE=...\n")
    return None


def _run(program: Program) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **program.environment}
    answer = subprocess.run(program.command, cwd=ROOT, env=environment, check=False, capture_output=True)
    lines = [line for line in answer.stdout.decode(errors="replace").splitlines() if line.startswith("{")]
    if not lines:
        raise SystemExit(f"{program.name} failed:\n{answer.stderr.decode(errors='replace')[-3000:]}")
    found: dict[str, float] = json.loads(lines[-1])
    return found


def report(loaders: dict[str, dict[str, float]], steps: dict[str, dict[str, float]]) -> str:
    """Return both tables in Markdown."""
    lines = ["| loader | patches/s, two workers | processor s per patch |", "|---|---|---|"]
    lines += [
        f"| {name} | {found['patches_per_s']:.2f} | {found['cpu_s_per_patch']:.3f} |" for name, found in loaders.items()
    ]
    lines += ["", "| step | ours, processor s | other, processor s |", "|---|---|---|"]
    lines += [f"| {name} | {found['ours']:.3f} | {found['other']:.3f} |" for name, found in steps.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
