"""Reconstruct hidden blocks: a stock encoder on the visible ones, learned tokens for the others, a light decoder.

References
----------
K. Tian et al., SparK, ICLR (2023); the decoder's form is that of SparK and AnatoMask. It is discarded after
pretraining.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from pretraining.anatomask.blocks import Side
from pretraining.anatomask.sparse import VisiblePlaces, compute_visible_only, masked_instance_norm

TOKEN_SPREAD = 0.02  # standard deviation, and bounds, of new tokens and convolutions
LEAST_WIDTH = 4  # channels of the decoder at full resolution; its width is halved at every step


class Reconstructor(nn.Module):
    """Predict a whole patch from its visible blocks.

    Parameters
    ----------
    encoder
        The encoder of a stock network; it is used as it is and shared with the network.
    n_channels
        Channels of the image.
    side
        Block in voxels, in array-axis order: the total stride of the encoder or of one of its inner stages.
    width
        Channels of the decoder at its lowest resolution; None for those of the encoder's deepest stage.
    """

    def __init__(self, encoder: nn.Module, *, n_channels: int, side: Side, width: int | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.side = side
        features = cast("Sequence[int]", encoder.output_channels)
        strides = [cast("Side", tuple(stride)) for stride in cast("Sequence[Sequence[int]]", encoder.strides)]
        if side not in total_strides(strides):
            raise ValueError(f"block {side} is not the total stride of a stage; expected one of {stage_sides(strides)}")
        # A stage without a stride has the resolution of the one before it and needs no step of the decoder.
        self.stages = [stage for stage in reversed(range(len(features))) if any(step != 1 for step in strides[stage])]
        first = width or features[-1]
        widths = [max(first >> step, LEAST_WIDTH) for step in range(len(self.stages) + 1)]
        self.norms = nn.ModuleList(nn.InstanceNorm3d(features[stage], affine=True) for stage in self.stages)
        # Places of deeper stages cover several blocks and are all visible: no token, or it would get no gradient.
        sides = total_strides(strides)
        self.tokens = nn.ParameterDict(
            {
                str(step): _token(features[stage])
                for step, stage in enumerate(self.stages)
                if all(length <= most for length, most in zip(sides[stage], side, strict=True))
            }
        )
        self.projections = nn.ModuleList(
            _projection(features[stage], widths[step], is_deepest=step == 0) for step, stage in enumerate(self.stages)
        )
        self.steps = nn.ModuleList(
            _Step(widths[step], widths[step + 1], strides[stage]) for step, stage in enumerate(self.stages)
        )
        self.output = nn.Conv3d(widths[-1], n_channels, kernel_size=1)
        for part in (self.projections, self.steps, self.output):
            part.apply(_initialize)

    def forward(self, voxels: Tensor, visible: Tensor) -> Tensor:
        """Return the prediction in the shape of ``voxels``.

        Parameters
        ----------
        voxels
            (sample, channel, slice, row, column).
        visible
            bool (sample, *grid) over blocks.
        """
        places = VisiblePlaces(visible.unsqueeze(1))
        shown = cast("Tensor", places.at(voxels.shape[2:]))  # a block is at least one voxel
        with compute_visible_only(self.encoder, places):
            features = self.encoder(torch.where(shown, voxels, torch.zeros_like(voxels)))
        state: Tensor | None = None
        for step, stage in enumerate(self.stages):
            skip = self._fill(features[stage], places, step)
            state = self.steps[step](skip if state is None else state + skip)
        output: Tensor = self.output(state)
        return output

    def _fill(self, features: Tensor, places: VisiblePlaces, step: int) -> Tensor:
        """Return the features of one stage with the token in hidden places, projected to the decoder's width."""
        norm = self.norms[step]
        visible = places.at(features.shape[2:])
        if visible is None:
            filled = norm(features)
        else:
            normed = masked_instance_norm(features, visible, cast("nn.InstanceNorm3d", norm))
            filled = torch.where(visible, normed, self.tokens[str(step)].to(normed.dtype))
        projected: Tensor = self.projections[step](filled)
        return projected


class _Step(nn.Module):
    """Twice the resolution along the axes of a stride, and two convolutions."""

    def __init__(self, width: int, next_width: int, stride: Side) -> None:
        super().__init__()
        if any(step not in (1, 2) for step in stride):
            raise ValueError(f"stride {stride}; expected 1 or 2 along each axis")
        kernel = cast("Side", tuple(4 if step == 2 else 3 for step in stride))
        self.enlarge = nn.ConvTranspose3d(width, width, kernel_size=kernel, stride=stride, padding=1)
        self.convolve = nn.Sequential(
            nn.Conv3d(width, width, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU6(inplace=True),
            nn.Conv3d(width, next_width, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm3d(next_width),
        )

    def forward(self, state: Tensor) -> Tensor:
        """Return the state at the next resolution."""
        enlarged: Tensor = self.convolve(self.enlarge(state))
        return enlarged


def total_strides(strides: Sequence[Side]) -> list[Side]:
    """Return how many voxels a place of each stage stands for, in array-axis order."""
    total = (1, 1, 1)
    found: list[Side] = []
    for stride in strides:
        total = (total[0] * stride[0], total[1] * stride[1], total[2] * stride[2])
        found.append(total)
    return found


def stage_sides(strides: Sequence[Side]) -> list[Side]:
    """Return the sides that a block may have: the total stride of each stage, without repetition."""
    return list(dict.fromkeys(total_strides(strides)))


def _token(n_features: int) -> nn.Parameter:
    token = torch.empty(1, n_features, 1, 1, 1)
    return nn.Parameter(nn.init.trunc_normal_(token, std=TOKEN_SPREAD, a=-TOKEN_SPREAD, b=TOKEN_SPREAD))


def _projection(n_features: int, width: int, *, is_deepest: bool) -> nn.Module:
    if is_deepest and n_features == width:
        return nn.Identity()
    size = 1 if is_deepest else 3
    return nn.Conv3d(n_features, width, kernel_size=size, padding=size // 2)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d):
        nn.init.trunc_normal_(module.weight, std=TOKEN_SPREAD)
    elif isinstance(module, nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
