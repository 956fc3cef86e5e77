"""What a pretraining method offers to the training loop, which knows nothing else of it.

A method is built once per process::

    method = build(options, plan, use_masks=True)  # of pretraining.volume_fusion, pretraining.anatomask

and the loop then does, in each step::

    samples = [method.sampler(volume, rng_of(seed, step, number)) for number in numbers]   # in loader processes
    batch = {key: torch.stack([sample[key] for sample in samples]).to(device) for key in samples[0]}
    outcome = method.loss(module, batch, moment, rng_of_step)
    outcome.loss.backward()
    optimizer.step(); scheduler.step()
    method.after_step(moment)

``module`` is ``method.module``, or that wrapped for several GPUs; call it, not ``method.module``, where gradients flow.

Randomness
----------
Every random choice comes from the generator that is passed in, which depends on seed, step and sample number alone.
No method keeps a generator, and none uses the global ones of NumPy or PyTorch, except for the weights' initial values.
So a resumed run equals an unbroken one, and a run in two processes equals one with twice the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from pretraining.dataset import PreparedVolume

Sample = Mapping[str, Tensor]  # one sample: the same keys, shapes and types for every sample of a run
Batch = Mapping[str, Tensor]  # samples, stacked along a new first axis, on the device of the network


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a run is.

    Attributes
    ----------
    step
        Number of steps that are done, from 0.
    n_steps
        Number of steps of the whole run.
    """

    step: int
    n_steps: int

    @property
    def fraction(self) -> float:
        """Share of the run that is done, from 0 to 1."""
        return self.step / self.n_steps if self.n_steps else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a step found.

    Attributes
    ----------
    loss
        Scalar with a gradient. Zero if nothing in the batch can be learned from; never NaN for that reason.
    values
        Scalars to log, without gradient: parts of the loss, shares of the voxels.
    """

    loss: Tensor
    values: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """A picture of one plane: (row, column) floats from 0 to 1, or (row, column, RGB) uint8; and what it shows."""

    title: str
    pixels: NDArray[np.float32] | NDArray[np.uint8]


class Sampler(Protocol):
    """Draws and augments one sample. Runs in loader processes: it pickles, and holds no network."""

    def __call__(self, volume: PreparedVolume, rng: np.random.Generator) -> Sample:
        """Return one sample from a volume (``pretraining.draws`` has the draw of a patch).

        Tensors are on the CPU; images are float32 of shape (1, *patch), masks bool or uint8 of the same shape.
        """


class Method(Protocol):
    """One way to pretrain a network.

    Attributes
    ----------
    network
        The stock nnU-Net network, in its own module: its whole ``state_dict()`` is what users fine-tune.
    module
        All that learns, ``network`` within it.
    sampler
        Makes samples.
    clip_norm
        Largest norm of the gradient; None leaves it as it is.
    """

    @property
    def network(self) -> nn.Module: ...  # noqa: D102 - above
    @property
    def module(self) -> nn.Module: ...  # noqa: D102
    @property
    def sampler(self) -> Sampler: ...  # noqa: D102
    @property
    def clip_norm(self) -> float | None: ...  # noqa: D102

    def configure(self, n_steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """Return the optimiser of ``module`` and its schedule, which is advanced after every step."""

    def loss(self, module: nn.Module, batch: Batch, moment: Moment, rng: np.random.Generator) -> Outcome:
        """Return loss and scalars of a batch; ``module`` is in training mode, under autocast where that is on."""

    def after_step(self, moment: Moment) -> None:
        """Do what follows the optimiser's step, such as the average of weights; ``moment`` is that of the loss."""

    def draw(self, batch: Batch, moment: Moment, rng: np.random.Generator) -> Sequence[Panel]:
        """Return pictures of the first sample: what went in, what was asked, what the network answered.

        Called between steps, without gradient; leaves ``module`` in training mode.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beyond ``module``, optimiser and schedule: tensors and plain values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state_dict`` returned."""


def sample_rng(seed: int, step: int, number: int) -> np.random.Generator:
    """Return the generator of one sample; ``number`` counts the samples of a step over all processes, from 0."""
    return np.random.default_rng((seed, step, 1 + number))


def step_rng(seed: int, step: int, rank: int = 0) -> np.random.Generator:
    """Return the generator of the loss of one step in one process; no sample has the same."""
    return np.random.default_rng((seed, step, 0, rank))


def stack(samples: Iterable[Sample]) -> dict[str, Tensor]:
    """Return the batch of these samples."""
    listed = list(samples)
    return {key: torch.stack([sample[key] for sample in listed]) for key in listed[0]}
