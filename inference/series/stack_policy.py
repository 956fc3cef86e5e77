"""Which stacks of a series are run, where it holds several."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from inference.series.contrast import is_magnitude
from inference.series.stack_choice import StackChoice, StackPolicy
from inference.series.stacks import Stack


def choose_stacks(stacks: Sequence[Stack], policy: StackPolicy) -> tuple[Stack, ...]:
    """Take the steps of ``policy`` one after the other; at least one stack is left."""
    chosen = list(stacks)
    for step in policy:
        chosen = _STEPS[step](chosen)
    return tuple(chosen)


def _first_of_repeats(stacks: list[Stack]) -> list[Stack]:
    """The first stack of each contrast, orientation and size."""
    return list({stack.contrast: stack for stack in reversed(stacks)}.values())[::-1]


def _magnitude(stacks: list[Stack]) -> list[Stack]:
    """Without phase, real and imaginary images, where there are others."""
    return [stack for stack in stacks if is_magnitude(stack.value_of("ImageType"))] or stacks


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
