"""Let a stock encoder compute only where blocks are visible, by hooks that change none of its keys.

After each convolution hidden places are set to zero again, and each instance norm takes mean and variance over the
visible places of each sample. The published code pools an "instance" norm over the whole batch, and that of nnssl
needs as many hidden blocks in every sample; here samples are independent and their counts may differ.

References
----------
K. Tian et al., SparK, ICLR (2023), sparse convolution for masked modelling.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn


class VisiblePlaces:
    """The visible blocks of a batch at every resolution.

    Parameters
    ----------
    visible
        bool (sample, 1, *grid) over blocks.
    """

    def __init__(self, visible: Tensor) -> None:
        self._maps: dict[torch.Size, Tensor | None] = {visible.shape[2:]: visible}
        self._visible = visible

    def at(self, shape: torch.Size) -> Tensor | None:
        """Return the visible places at a resolution (slice, row, column); None where a place covers several blocks.

        Such a place is computed from all visible voxels in it and counts as visible.
        """
        if shape not in self._maps:
            grid = self._visible.shape[2:]
            if any(size < count for size, count in zip(shape, grid, strict=True)):
                self._maps[shape] = None
            else:
                if any(size % count for size, count in zip(shape, grid, strict=True)):
                    raise ValueError(f"features of shape {tuple(shape)} are not a multiple of {tuple(grid)} blocks")
                enlarged = self._visible
                for axis, (size, count) in enumerate(zip(shape, grid, strict=True), start=2):
                    enlarged = enlarged.repeat_interleave(size // count, axis)
                self._maps[shape] = enlarged
        return self._maps[shape]


def masked_instance_norm(features: Tensor, visible: Tensor, norm: nn.InstanceNorm3d) -> Tensor:
    """Normalise (sample, channel, slice, row, column) over the visible places of each sample; hidden ones become 0."""
    shown = visible.to(torch.float32)
    values = features.to(torch.float32) * shown
    count = shown.sum((2, 3, 4), keepdim=True).clamp(min=1)
    mean = values.sum((2, 3, 4), keepdim=True) / count
    centred = (values - mean) * shown
    variance = centred.square().sum((2, 3, 4), keepdim=True) / count
    scale = (variance + norm.eps).rsqrt()
    if norm.weight is None or norm.bias is None:
        return (centred * scale).to(features.dtype)
    weight, bias = (parameter.view(1, -1, 1, 1, 1) for parameter in (norm.weight, norm.bias))
    return (centred * (scale * weight) + bias * shown).to(features.dtype)


@contextmanager
def compute_visible_only(encoder: nn.Module, places: VisiblePlaces) -> Iterator[None]:
    """Within this context the encoder keeps hidden places at zero and normalises over visible ones."""

    def mask_convolution(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        visible = places.at(output.shape[2:])
        return output if visible is None else output * visible

    def mask_norm(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        visible = places.at(output.shape[2:])
        norm = cast("nn.InstanceNorm3d", module)
        return output if visible is None else masked_instance_norm(inputs[0], visible, norm)

    with ExitStack() as hooks:
        for module in encoder.modules():
            if isinstance(module, nn.Conv3d):
                hooks.callback(module.register_forward_hook(mask_convolution).remove)
            elif isinstance(module, nn.InstanceNorm3d):
                hooks.callback(module.register_forward_hook(mask_norm).remove)
        yield
