"""Which device, which precision, and how several processes meet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import torch
import torch.distributed as dist

from pretraining.errors import SettingRefused


class DeviceChoice(StrEnum):
    """Where to train."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """Type of numbers in the network; weights and sums stay float32."""

    AUTO = "auto"
    BF16 = "bf16"
    FP32 = "fp32"


@dataclass(frozen=True, slots=True)
class Processes:
    """Place of this process among those of a run."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0


def started_by_torchrun() -> Processes | None:
    """Return this process's place if ``torchrun`` started it."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return None
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return Processes(rank, size, int(os.environ.get("LOCAL_RANK", rank)))


def choose_device(choice: DeviceChoice, processes: Processes = Processes()) -> torch.device:
    """Return the device of this process.

    Raises
    ------
    SettingRefused
        CUDA is wanted, and there are too few devices.
    """
    n_devices = torch.cuda.device_count()
    if choice is DeviceChoice.CPU or (choice is DeviceChoice.AUTO and n_devices == 0):
        return torch.device("cpu")
    if processes.local_rank >= n_devices:
        raise SettingRefused("--devices", f"this machine has {n_devices} CUDA devices that PyTorch can use")
    return torch.device("cuda", processes.local_rank)


def uses_bf16(precision: Precision, device: torch.device) -> bool:
    """Return whether the network computes in bfloat16; by default on GPUs that have it.

    On a CPU it must be asked for: there PyTorch's sums in bfloat16 differ between runs of the same program, so that a
    resumed run would not be equal to an unbroken one.

    Raises
    ------
    SettingRefused
        The CPU has no instructions for it, and would be many times slower.
    """
    if device.type == "cuda":
        is_fast = bool(torch.cuda.is_bf16_supported(including_emulation=False))
        return is_fast if precision is Precision.AUTO else precision is Precision.BF16
    if precision is Precision.BF16 and not _cpu_flags() & {"avx512_bf16", "amx_bf16"}:
        raise SettingRefused("--precision bf16", "this CPU has no instructions for it and would be slower; use fp32")
    return precision is Precision.BF16


def join(processes: Processes, device: torch.device, address: str | None = None) -> None:
    """Meet the other processes of a run; ``address`` is ``tcp://host:port``, or None under ``torchrun``."""
    if processes.size == 1:
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=address, rank=processes.rank, world_size=processes.size)


def leave() -> None:
    """Part from the other processes."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def greatest(value: float, device: torch.device) -> float:
    """Return the greatest value over all processes."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    told = torch.tensor([value], dtype=torch.float64, device=device)
    dist.all_reduce(told, dist.ReduceOp.MAX)
    return float(told.item())


def means(values: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """Return the mean of each value over all processes."""
    if not (dist.is_available() and dist.is_initialized()):
        return dict(values)
    told = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.all_reduce(told)
    return dict(zip(values, (told / dist.get_world_size()).tolist(), strict=True))


def peak_memory_bytes(device: torch.device) -> int:
    """Return how much memory this process has used at most: of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _cpu_flags() -> frozenset[str]:
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file:
            line = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return frozenset()
    return frozenset(line.split())
