"""Feed samples to the loop. A sample depends on seed, step and number alone, not on which process makes it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from pretraining.dataset import PreparedVolume
from pretraining.errors import PretrainingError, SampleFailedError
from pretraining.method import Sample, Sampler, sample_rng, stack

Key = tuple[int, int]  # step; number of the sample in it, over all processes


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a sample could not be made; travels from a loader process in place of the sample."""

    volume_id: str
    reason: str
    trace: str


@dataclass(frozen=True, slots=True, eq=False)
class Samples(Dataset[Sample | Failure]):
    """Samples by their key."""

    volumes: Sequence[PreparedVolume]
    sampler: Sampler
    seed: int

    def __getitem__(self, key: Key) -> Sample | Failure:
        """Return the sample of a step, or why there is none."""
        step, number = key
        rng = sample_rng(self.seed, step, number)
        volume = self.volumes[int(rng.integers(len(self.volumes)))]
        try:
            sample = self.sampler(volume, rng)
        except Exception as error:  # noqa: BLE001 - a text crosses from a loader process; an exception may not
            reason = str(error) if isinstance(error, PretrainingError) else f"{type(error).__name__}: {error}"
            return Failure(volume.id, reason, traceback.format_exc())
        bad = [key for key, tensor in sample.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
        if bad:
            return Failure(volume.id, f"{bad[0]} of a patch holds values that are no finite numbers", "")
        return sample


@dataclass(frozen=True, slots=True)
class StepKeys:
    """The keys of each step for one process of several."""

    first_step: int
    n_steps: int
    batch_size: int  # of this process
    rank: int = 0

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield the keys of a step after the other."""
        first = self.rank * self.batch_size
        for step in range(self.first_step, self.n_steps):
            yield [(step, number) for number in range(first, first + self.batch_size)]

    def __len__(self) -> int:
        """Return the number of steps."""
        return self.n_steps - self.first_step


def batches(
    samples: Samples, keys: StepKeys, *, workers: int, device: torch.device
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the batch of each step, on the CPU.

    Raises
    ------
    SampleFailedError
        A sample could not be made; names the volume.
    """
    options: dict[str, Any] = {"prefetch_factor": 4} if workers else {}
    loader: DataLoader[Any] = DataLoader(
        samples,
        batch_sampler=keys,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
        **options,
    )
    for batch in loader:
        if isinstance(batch, Failure):
            raise SampleFailedError(batch.volume_id, batch.reason, batch.trace)
        yield batch


def _collate(samples: list[Sample | Failure]) -> dict[str, torch.Tensor] | Failure:
    made = [sample for sample in samples if not isinstance(sample, Failure)]
    failed = [sample for sample in samples if isinstance(sample, Failure)]
    return failed[0] if failed else stack(made)
