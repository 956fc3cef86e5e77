"""Cut patches for the judge from a case: outputs of the 3 mm networks, channels, and positions of patches.

A patch file holds one float16 array (channel + 1, slice, row, column): all channels and, last, the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from inference.judge.channels import CHANNEL_NAMES, View, judge_channels, strided, with_appearance
from inference.judge.context import probabilities, resampled
from inference.judge.judge import predict, strides_of, view_volume
from inference.load_model import load_model
from inference.models import read_model_spec
from inference.refine.grids import Field, Mask
from training.judge.cases import JudgeCase
from training.samples import IGNORE, preprocess

PATCH = (40, 48, 40)
PATCHES_PER_CASE = 10
BLANK_SHARE = 0.12  # of cases without any output of the 3 mm networks but the body
FOUND_SHARE = 0.5  # of cases in which values are compared with a first result instead of the 3 mm network's
OWN_SHARE = 0.7  # of these cases with the judge's own first result, after some training; else it is simulated
WRONG_FROM = 0.5  # error of a probability
AT_ERROR_SHARE = 0.5  # of the patches that are placed at errors, if the judge's errors are known
AT_CHANGE_SHARE = 0.7  # of the patches of a changed case that are placed at a change
LARGE_PART_SHARE = 0.01  # of the largest part; smaller parts are ignored
POOL = 8  # the networks halve their input three times


@dataclass(frozen=True, slots=True, eq=False)
class CoarseNetworks:
    """The 3 mm networks whose outputs are input of the judge."""

    foreground: nn.Module
    anonymized: nn.Module


def load_coarse_networks(models: Path) -> CoarseNetworks:
    """Load both reference networks on the CPU."""
    loaded = [
        load_model(read_model_spec(models / role), device=torch.device("cpu")) for role in ("foreground", "anonymized")
    ]
    foreground, anonymized = (model._networks[0] for model in loaded)  # noqa: SLF001
    return CoarseNetworks(foreground, anonymized)


@torch.inference_mode()
def view_of(case: JudgeCase, networks: CoarseNetworks, *, is_blank: bool = False) -> tuple[View, NDArray[np.uint8]]:
    """Return the judge's region of a case and its target (slice, row, column).

    The 3 mm networks run once over the whole volume; with ``is_blank`` their output is replaced by "background".
    """
    case = as_read(case)
    shape = case.voxels.shape
    values = preprocess(case.voxels, np.asarray(case.spacing_mm))
    padding = [(-size) % POOL for size in values.shape[1:]]
    padded = nn.functional.pad(values[None], (0, padding[2], 0, padding[1], 0, padding[0]))
    inner = (slice(None), *(slice(size) for size in values.shape[1:]))
    body_share, context = (
        probabilities(network(padded)[0][inner].numpy()) for network in (networks.foreground, networks.anonymized)
    )
    whole = (slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2]))
    body: Mask = resampled(body_share[1:2], shape, whole)[0] > 0.5
    if is_blank:
        context = np.zeros_like(context)
        context[0] = 1
    view = view_volume(case.voxels, case.spacing_mm, body, context)
    return view, case.target[view.window]


def as_read(case: JudgeCase) -> JudgeCase:
    """Return the case with only the voxels that the judge reads along each axis; values stay exact."""
    steps = strides_of(case.spacing_mm)
    if steps == (1, 1, 1):
        return case
    places = strided(steps)
    first, second, third = (step * mm for step, mm in zip(steps, case.spacing_mm, strict=True))
    voxels = np.ascontiguousarray(case.voxels[places])
    return JudgeCase(voxels, (first, second, third), case.target[places], case.kind, case.is_ct)


def draw_patches(
    case: JudgeCase, networks: CoarseNetworks, rng: np.random.Generator, judge: nn.Module | None = None
) -> list[NDArray[np.float16]]:
    """Return patches of a case, (channel + 1, slice, row, column) with the target last.

    Parameters
    ----------
    judge
        The network as trained so far. For some cases its result is the input of a second round, and patches are placed
        at its errors.
    """
    view, target = view_of(case, networks, is_blank=rng.random() < BLANK_SHARE)
    channels = judge_channels(view)
    target, view = target[strided(view.network_steps)], view.on_network_grid()
    errors = np.zeros(target.shape, bool)
    if rng.random() < FOUND_SHARE:
        if judge is not None and rng.random() < OWN_SHARE:
            found = 1 - predict(judge, channels)[0]
            errors = (np.abs(found - (target > 0)) > WRONG_FROM) & (target != IGNORE)
        else:
            found = first_answer(target, view, rng)
        channels = with_appearance(channels, view, found)
    stacked = np.concatenate([channels, target[None].astype(np.float32)])
    missing = [max(0, wanted - size) for size, wanted in zip(target.shape, PATCH, strict=True)]
    widths = [(gap // 2, gap - gap // 2) for gap in missing]
    if any(missing):
        padded_target = np.pad(stacked[-1:], [(0, 0), *widths], constant_values=IGNORE)
        stacked = np.concatenate([np.pad(stacked[:-1], [(0, 0), *widths]), padded_target])
    centres = draw_centres(target, view, rng, PATCHES_PER_CASE, errors)
    patches = []
    for centre in centres:
        starts = [
            int(np.clip(place + before - wanted * rng.uniform(0.3, 0.7), 0, size - wanted))
            for place, (before, _), wanted, size in zip(centre, widths, PATCH, stacked.shape[1:], strict=True)
        ]
        box = tuple(slice(start, start + wanted) for start, wanted in zip(starts, PATCH, strict=True))
        patch = stacked[:, *box]
        patches.append(np.ascontiguousarray(patch[..., ::-1] if rng.random() < 0.5 else patch).astype(np.float16))
    return patches


def draw_centres(
    target: NDArray[np.uint8], view: View, rng: np.random.Generator, count: int, errors: Mask | None = None
) -> list[tuple[int, int, int]]:
    """Draw voxels (slice, row, column) to place patches around.

    All parts of a change are equally likely; other patches are placed at the skin or at suspected changes.
    """
    is_changed = (target > 0) & (target < IGNORE)
    parts, n_parts = ndimage.label(is_changed)
    sizes = np.bincount(parts.ravel(), minlength=n_parts + 1)[1:]
    large = np.flatnonzero(sizes >= LARGE_PART_SHARE * sizes.max(initial=0)) + 1
    suspected = np.flatnonzero((view.context[0] < 0.6) & (target == 0))
    near_skin = np.flatnonzero((np.abs(view.depth_mm) < 8) & (target == 0))
    wrong = np.flatnonzero(errors) if errors is not None else np.zeros(0, np.int64)
    centres = []
    for _ in range(count):
        draw = rng.random()
        if wrong.size and rng.random() < AT_ERROR_SHARE:
            places = wrong
        elif large.size and draw < AT_CHANGE_SHARE:
            places = np.flatnonzero(parts == large[rng.integers(large.size)])
        elif suspected.size and draw > 1 - 0.4 * (1 - AT_CHANGE_SHARE if large.size else 1):
            places = suspected
        elif near_skin.size and rng.random() < 0.8:
            places = near_skin
        else:
            places = np.arange(target.size)
        z, y, x = np.unravel_index(int(places[rng.integers(places.size)]), target.shape)
        centres.append((int(z), int(y), int(x)))
    return centres


def first_answer(target: NDArray[np.uint8], view: View, rng: np.random.Generator) -> Field:
    """Simulate the judge's first result: most of a change, with some parts missed and some false.

    Without a change it is empty, or sometimes a false area where the 3 mm network suspects a change. The result is a
    probability (slice, row, column).
    """
    truth = ((target > 0) & (target < IGNORE)).astype(np.float32)
    if truth.any():
        parts, n_parts = ndimage.label(truth > 0)
        if n_parts > 1 and rng.random() < 0.5:
            kept = rng.random(n_parts + 1) < 0.6
            kept[1 + np.argmax(np.bincount(parts.ravel())[1:])] = True
            truth *= kept[parts]
        blobs = ndimage.zoom(rng.normal(0, 1, [-(-size // 8) for size in truth.shape]).astype(np.float32), 8, order=1)
        blobs = blobs[tuple(slice(size) for size in truth.shape)]
        truth = np.clip(ndimage.uniform_filter(truth, 3) - 0.6 * (blobs > rng.uniform(0.5, 2.0)), 0, 1)
    if rng.random() < 0.3:
        truth = np.maximum(truth, (1 - view.context[0]) * np.float32(rng.uniform(0.2, 1.0)))
    return truth


def write_patches(patches: Sequence[NDArray[np.float16]], folder: Path, name: str) -> None:
    """Write patches to a folder, each atomically."""
    for index, patch in enumerate(patches):
        part = folder / f"{name}-{index}.part"
        with part.open("wb") as stream:
            np.save(stream, patch)
        part.replace(folder / f"{name}-{index}.npy")


def read_patch(path: Path) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Read channels (channel, slice, row, column) and target (slice, row, column) of a stored patch.

    Raises
    ------
    ValueError
        The patch has another shape, because it was written by another version.
    """
    kept = np.load(path)
    if kept.shape != (len(CHANNEL_NAMES) + 1, *PATCH):
        message = f"{path} has shape {kept.shape}, expected {(len(CHANNEL_NAMES) + 1, *PATCH)}: empty the folder"
        raise ValueError(message)
    return kept[:-1], kept[-1].astype(np.uint8)
