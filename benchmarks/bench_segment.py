"""Measure the stages of one segmentation against nnU-Net's predictor with the same weights, device and threads.

Prints Markdown. ``python -m benchmarks.bench_segment --help`` lists the options; nnunetv2 must be installed (extra
``parity``). The volumes are synthetic: a head-like body in noisy air, as a CT of 512 x 512 x 300 and an MR of 256
cubed.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.load_model import load_model
from inference.models import ModelSpec, read_model_spec, reference_model
from inference.nnunet.preprocessing import Preprocessing
from inference.nnunet.source_grid import SourceGridLabels
from inference.nnunet.trained_model import choose_device

STAGES = ("preprocess", "tiles", "back to source grid")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Clock = Callable[[], float]
Result = tuple[Mapping[str, float], NDArray[Any]]
Volume = tuple[NDArray[np.float32], tuple[float, float, float]]


def body_in_air(shape: tuple[int, int, int], *, air: float, tissue: float, noise: float) -> NDArray[np.float32]:
    """Return an ellipsoid with some structure inside and noise everywhere, (slice, row, column)."""
    axes = [np.linspace(-1.0, 1.0, size, dtype=np.float32) for size in shape]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    radius = np.sqrt((z / 0.9) ** 2 + (y / 0.75) ** 2 + (x / 0.6) ** 2)
    structure = 1.0 + 0.3 * np.sin(9 * z) * np.sin(11 * y) * np.sin(7 * x)
    voxels = np.where(radius < 1.0, air + (tissue - air) * structure, air).astype(np.float32)
    voxels += np.random.default_rng(0).normal(0.0, noise, shape).astype(np.float32)
    return voxels


def volumes(scale: float) -> Iterator[tuple[str, Volume]]:
    """Yield name and volume of both test volumes; ``scale`` shrinks them for a quick run."""
    ct = (round(300 * scale), round(512 * scale), round(512 * scale))
    mr = (round(256 * scale),) * 3
    yield f"CT {ct[2]}x{ct[1]}x{ct[0]}", (body_in_air(ct, air=-1000.0, tissue=40.0, noise=15.0), (0.8, 0.49, 0.49))
    yield f"MR {mr[2]}x{mr[1]}x{mr[0]}", (np.abs(body_in_air(mr, air=0.0, tissue=300.0, noise=8.0)), (1.0, 1.0, 1.0))


class Stopwatch:
    """Accumulated seconds by name."""

    def __init__(self, device: torch.device, clock: Clock) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device
        self._clock = clock

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Measure the time of the ``with`` block."""
        started_at = self._clock()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.seconds[name] = self.seconds.get(name, 0.0) + self._clock() - started_at


def run_ours(spec: ModelSpec, shared: Preprocessing, device: torch.device, clock: Clock, *, mirroring: bool) -> Result:
    """Return seconds per stage and labels of this project; preprocessing is shared with earlier models."""
    model = load_model(spec, device=device, use_mirroring=mirroring)
    watch = Stopwatch(device, clock)
    with watch.measure("preprocess"):
        prepared = shared.prepare(model.plans, model.channels)
    result = SourceGridLabels(prepared, model.plans, model.labels)
    logits = model.predict_logits(prepared)
    while True:
        with watch.measure("tiles"):
            planes = next(logits, None)
        if planes is None:
            return watch.seconds, result.finish()
        with watch.measure("back to source grid"):
            result.add(planes)


def run_stock(spec: ModelSpec, volume: Volume, device: torch.device, clock: Clock, *, mirroring: bool) -> Result:
    """Return seconds per stage and labels of nnU-Net's predictor; computing the extra channels is not timed."""
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    from inference.nnunet.channels import CHANNELS

    voxels, spacing_mm = volume
    stacked = np.stack([CHANNELS[name](voxels) for name in spec.channels])
    predictor = nnUNetPredictor(device=device, use_mirroring=mirroring, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(spec.folder), spec.folds)
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    watch = Stopwatch(device, clock)
    with watch.measure("preprocess"):
        preprocessor = configuration.preprocessor_class(verbose=False)
        data, _, properties = preprocessor.run_case_npy(
            stacked, None, {"spacing": list(spacing_mm)}, plans, configuration, predictor.dataset_json
        )
        data = torch.from_numpy(data).to(dtype=torch.float32, memory_format=torch.contiguous_format)
    with watch.measure("tiles"):
        logits = predictor.predict_logits_from_preprocessed_data(data).cpu()
    with watch.measure("back to source grid"):
        labels = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits, plans, configuration, predictor.label_manager, properties
        )
    return watch.seconds, labels


def dice(ours: NDArray[Any], stock: NDArray[Any]) -> str:
    """Return the Dice coefficient of each label as text."""
    shares = []
    for label in range(1, int(max(ours.max(), stock.max())) + 1):
        found, expected = ours == label, stock == label
        total = np.count_nonzero(found) + np.count_nonzero(expected)
        shares.append(f"{2.0 * np.count_nonzero(found & expected) / total:.5f}" if total else "-")
    return ", ".join(shares) or "-"


def table(stock: Mapping[str, float], ours: Mapping[str, float]) -> Iterator[str]:
    """Yield the rows of the Markdown table."""
    yield "| stage | nnU-Net s | this s | ratio |"
    yield "|---|---:|---:|---:|"
    pairs = [(stage, stock[stage], ours[stage]) for stage in STAGES]
    for stage, theirs, own in [*pairs, ("**all**", sum(stock.values()), sum(ours.values()))]:
        yield f"| {stage} | {theirs:.2f} | {own:.2f} | {theirs / own:.1f} x |"


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder with a model.yaml; default: the reference models")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: CPU seconds, for a busy machine")
    parser.add_argument("--mirroring", action="store_true", help="average over flips, both sides")
    parser.add_argument("--scale", type=float, default=1.0, help="factor to shrink the volumes, for a quick run")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    specs = (
        [read_model_spec(options.model)]
        if options.model
        else [reference_model("foreground"), reference_model("anonymized")]
    )
    warnings.simplefilter("ignore")  # nnU-Net's imports warn
    mirroring = "on" if options.mirroring else "off"
    print(f"# Segmentation, {device.type}, {options.threads} threads, {options.clock} clock, mirroring {mirroring}")
    for name, volume in volumes(options.scale):
        compare(name, volume, specs, device, CLOCKS[options.clock], mirroring=options.mirroring)
    return 0


def compare(
    name: str, volume: Volume, specs: list[ModelSpec], device: torch.device, clock: Clock, *, mirroring: bool
) -> None:
    """Run every model both ways on one volume and print the tables."""
    shared = Preprocessing(*volume, device=device)
    total_stock, total_ours = 0.0, 0.0
    for spec in specs:
        with redirect_stdout(io.StringIO()), torch.inference_mode():
            stock, stock_labels = run_stock(spec, volume, device, clock, mirroring=mirroring)
            gc.collect()
            ours, our_labels = run_ours(spec, shared, device, clock, mirroring=mirroring)
            gc.collect()
        print(f"\n## {name}, {spec.identity.name}\n")
        print("\n".join(table(stock, ours)))
        print(f"\nDice of each label: {dice(our_labels, stock_labels)}", flush=True)
        total_stock += sum(stock.values())
        total_ours += sum(ours.values())
    print(f"\n{name}, all models: {total_stock:.2f} s against {total_ours:.2f} s, {total_stock / total_ours:.1f} x")


if __name__ == "__main__":
    sys.exit(main())
