"""Choose which of several stacks of a series are processed, and find which of the others only repeat them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from inference.series.contrast import is_magnitude
from inference.series.stack_choice import StackChoice, StackPolicy
from inference.series.stacks import Stack

IMAGE_TYPE = "ImageType"


def choose_stacks(stacks: Sequence[Stack], policy: StackPolicy) -> tuple[Stack, ...]:
    """Take the steps of ``policy`` one after the other; at least one stack is left."""
    chosen = list(stacks)
    for step in policy:
        chosen = _STEPS[step](chosen)
    return tuple(chosen)


def repeats_stack(stack: Stack, run: Stack) -> bool:
    """Whether a stack shows the same region as a processed one, at another time or as its phase image.

    The same contrast alone is not enough: a scout may share it with the head, and a scan that was broken off shows less
    than its repetition.
    """
    if stack.contrast != run.contrast:
        is_phase = not is_magnitude(stack.value_of(IMAGE_TYPE))
        if not is_phase or _without_image_type(stack) != _without_image_type(run):
            return False
    (low, high), (run_low, run_high) = _extent_mm(stack), _extent_mm(run)
    step_mm = np.linalg.norm(run_high - run_low) / (len(run.planes) - 1)
    return bool(np.all(low >= run_low - step_mm) and np.all(high <= run_high + step_mm))


def _without_image_type(stack: Stack) -> tuple[tuple[str, str], ...]:
    return tuple(pair for pair in stack.contrast if pair[0] != IMAGE_TYPE)


def _extent_mm(stack: Stack) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest LPS coordinates of the first voxels of its planes."""
    positions_mm = np.stack([plane.position_mm for plane in stack.planes])
    return positions_mm.min(axis=0), positions_mm.max(axis=0)


def _first_of_repeats(stacks: list[Stack]) -> list[Stack]:
    """The first stack of each contrast, orientation and size."""
    return list({stack.contrast: stack for stack in reversed(stacks)}.values())[::-1]


def _magnitude(stacks: list[Stack]) -> list[Stack]:
    """Without phase, real and imaginary images, where there are others."""
    return [stack for stack in stacks if is_magnitude(stack.value_of(IMAGE_TYPE))] or stacks


def _largest(stacks: list[Stack]) -> list[Stack]:
    most = max(stack.n_voxels for stack in stacks)
    return [stack for stack in stacks if stack.n_voxels == most]


def _lowest(trait: str) -> Callable[[list[Stack]], list[Stack]]:
    """Step that keeps the stacks with the smallest value of a trait, and all where none has one."""

    def step(stacks: list[Stack]) -> list[Stack]:
        values = {id(stack): _number(stack.value_of(trait)) for stack in stacks}
        known = [value for value in values.values() if value is not None]
        return [stack for stack in stacks if values[id(stack)] == min(known)] if known else stacks

    return step


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


_STEPS: Mapping[StackChoice, Callable[[list[Stack]], list[Stack]]] = MappingProxyType(
    {
        StackChoice.ALL: lambda stacks: stacks,
        StackChoice.FIRST: lambda stacks: stacks[:1],
        StackChoice.FIRST_OF_REPEATS: _first_of_repeats,
        StackChoice.MAGNITUDE: _magnitude,
        StackChoice.LARGEST: _largest,
        StackChoice.LOWEST_B_VALUE: _lowest("DiffusionBValue"),
        StackChoice.FIRST_ECHO: _lowest("EchoTime"),
    }
)
