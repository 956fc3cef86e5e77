"""Turn logits on the model grid into labels on the source grid, a few planes at a time.

As in nnU-Net, logits are interpolated first and the label is chosen afterwards. If there are only background and one
label, the difference of their logits is interpolated instead: the same label for half the work, because interpolation
is linear.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray

from inference.nnunet.labels import Labels
from inference.nnunet.plans import Plans
from inference.nnunet.preprocessing import ModelInput
from inference.nnunet.resampling import Block, apply_block, plan_resampling, slab_planes
from inference.nnunet.tiles import Planes

SLAB_BYTES = 128 * 2**20


class SourceGridLabels:
    """Labels of one volume, computed while planes of logits arrive.

    Call ``add`` with all planes in order, then ``finish``.
    """

    def __init__(self, prepared: ModelInput, plans: Plans, labels: Labels) -> None:
        self._labels = labels
        self._axes = plans.transpose_forward
        self._box = prepared.box
        model_shape = tuple(prepared.values.shape[1:])
        shape = tuple(high - low for low, high in prepared.box)
        n_heads = 1 if labels.is_binary else labels.n_heads
        block = min(64, slab_planes(n_heads * shape[1] * shape[2], budget_bytes=SLAB_BYTES))
        change = plan_resampling(
            model_shape, shape, plans.spacing_mm, prepared.spacing_mm, plans.logits_resampling, block=block
        )
        self._along, self._rows, self._columns = change.operators
        self._blocks = deque(self._along.blocks or _identity_blocks(model_shape[0], block))
        self._result: NDArray[np.uint8] = np.zeros(prepared.source_shape, np.uint8)
        self._waiting: torch.Tensor | None = None  # model planes that a later block still needs
        self._first_waiting = 0

    def add(self, planes: Planes) -> None:
        """Take the next planes of logits and compute the source planes that need no further ones."""
        logits = planes.logits[1:] - planes.logits[:1] if self._labels.is_binary else planes.logits
        self._waiting = logits if self._waiting is None else torch.cat([self._waiting, logits], dim=1)
        stop = planes.start + planes.logits.shape[1]
        while self._blocks and self._blocks[0].source_stop <= stop:
            self._write(self._blocks.popleft(), self._waiting)
        if self._blocks:
            self._forget_before(self._blocks[0].source_start)

    def finish(self) -> NDArray[np.uint8]:
        """Return the labels, (z, y, x) uint8, on the grid and in the orientation of ``Preprocessing``'s voxels."""
        return np.transpose(self._result, np.argsort(self._axes))

    def _write(self, block: Block, waiting: torch.Tensor) -> None:
        low, high = block.source_start - self._first_waiting, block.source_stop - self._first_waiting
        part = waiting[:, low:high]
        if not self._along.is_identity:
            part = apply_block(block, part, 1)
        part = self._columns.apply(self._rows.apply(part, 2), 3)
        chosen = self._labels.choose(part).cpu().numpy()
        (first, _), (top, bottom), (left, right) = self._box
        self._result[first + block.start : first + block.stop, top:bottom, left:right] = chosen

    def _forget_before(self, plane: int) -> None:
        if self._waiting is not None and plane > self._first_waiting:
            n_dropped = min(plane - self._first_waiting, self._waiting.shape[1])
            self._waiting = self._waiting[:, n_dropped:].clone()
            self._first_waiting += n_dropped


def _identity_blocks(n_planes: int, block: int) -> list[Block]:
    """Return blocks of planes that need no resampling along the first axis."""
    starts = range(0, n_planes, block)
    ends = [min(start + block, n_planes) for start in starts]
    return [Block(start, end, start, end, torch.empty(0)) for start, end in zip(starts, ends, strict=True)]
