"""Measure time and memory of whole commands: ``dicom-node segment`` against ``nnUNetv2_predict``.

Both use the same NIfTI file, weights, threads and CPU. Ours runs both models, refines the masks, decides the verdict
and draws the overlay. nnU-Net's command is run once per model; its extra input channels are written beforehand and not
timed. Mirroring is off on both sides. Prints Markdown.
"""

# SimpleITK ships stubs without types.
# mypy: allow-untyped-calls

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import SimpleITK as sitk

from benchmarks.bench_segment import Volume, volumes
from inference.models import ModelSpec, reference_model
from inference.nnunet.channels import CHANNELS

POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Cost:
    """Time and memory of one command with all its processes."""

    wall_s: float
    cpu_s: float
    peak_mib: float

    def then(self, other: Cost) -> Cost:
        """Return the cost of both commands, one after the other."""
        return Cost(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s, max(self.peak_mib, other.peak_mib))


def run_command(command: Sequence[str | Path], *, threads: int) -> Cost:
    """Run a command to its end; memory is the sum of its processes' proportional set sizes, sampled while it runs."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "nnUNet_results": "", "nnUNet_raw": ""}
    before = os.times()
    started_at = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    peak_bytes = 0

    def watch() -> None:
        nonlocal peak_bytes
        while process.poll() is None:
            peak_bytes = max(peak_bytes, _memory_bytes(process.pid))
            time.sleep(POLL_S)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate()
    watcher.join()
    wall_s = time.perf_counter() - started_at
    after = os.times()
    if process.returncode:
        raise SystemExit(f"{command[0]} failed:\n{errors.decode()[-2000:]}")
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(wall_s, cpu_s, peak_bytes / 2**20)


def _memory_bytes(pid: int) -> int:
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.NoSuchProcess:
        return total
    return total


def write_nifti(voxels: np.ndarray, spacing_mm: tuple[float, float, float], path: Path) -> None:
    """Write voxels (slice, row, column) with axes towards head, posterior and left as a NIfTI file."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels))
    image.SetSpacing(spacing_mm[::-1])
    sitk.WriteImage(image, path, useCompression=True, compressionLevel=1)


def compare(name: str, volume: Volume, specs: Sequence[ModelSpec], folder: Path, *, threads: int) -> None:
    """Run both commands on one volume and print a table."""
    voxels, spacing_mm = volume
    source = folder / "volume.nii.gz"
    write_nifti(voxels, spacing_mm, source)
    bin_folder = Path(sys.executable).parent
    own: list[str | Path] = [bin_folder / "dicom-node", "segment", source, "-o", folder / "ours"]
    ours = run_command([*own, "--device", "cpu", "--threads", str(threads)], threads=threads)
    stock = Cost(0.0, 0.0, 0.0)
    for spec in specs:
        inputs = folder / spec.identity.role
        inputs.mkdir()
        for index, channel in enumerate(spec.channels):
            write_nifti(CHANNELS[channel](voxels), spacing_mm, inputs / f"volume_{index:04d}.nii.gz")
        command: list[str | Path] = [
            bin_folder / "nnUNetv2_predict_from_modelfolder", "-i", inputs, "-o", folder / f"{spec.identity.role}-out",
            "-m", spec.folder, "-f", "0", "--disable_tta", "--disable_progress_bar", "-device", "cpu",
            "-npp", "1", "-nps", "1",
        ]  # fmt: skip
        stock = stock.then(run_command(command, threads=threads))
    print(f"\n## {name}\n\n| command | wall s | CPU s | peak MiB |\n|---|---:|---:|---:|")
    for title, cost in (("nnUNetv2_predict, once per model", stock), ("dicom-node segment", ours)):
        print(f"| {title} | {cost.wall_s:.1f} | {cost.cpu_s:.1f} | {cost.peak_mib:.0f} |")
    print(
        f"| **ratio** | {stock.wall_s / ours.wall_s:.1f} x | {stock.cpu_s / ours.cpu_s:.1f} x "
        f"| {stock.peak_mib / ours.peak_mib:.1f} x |",
        flush=True,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--scale", type=float, default=1.0, help="factor to shrink the volumes, for a quick run")
    options = parser.parse_args(arguments)
    specs = [reference_model("foreground"), reference_model("anonymized")]
    print(f"# Whole commands, CPU, {options.threads} threads, mirroring off")
    for name, volume in volumes(options.scale):
        with tempfile.TemporaryDirectory() as folder:
            compare(name, volume, specs, Path(folder), threads=options.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
