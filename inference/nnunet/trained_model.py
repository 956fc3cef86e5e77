"""Load a trained-model folder (plans, labels and the networks of its folds) onto a device, and predict with it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from inference.nnunet.architecture import build_network
from inference.nnunet.checkpoint import Checkpoint, load_weights, read_checkpoint
from inference.nnunet.cpu_layout import optimise_for_cpu
from inference.nnunet.errors import ModelFileMissingError, ModelKeyError, ResourcesExhaustedError
from inference.nnunet.labels import Labels, channel_names, read_labels
from inference.nnunet.plans import Plans, read_plans
from inference.nnunet.preprocessing import ModelInput
from inference.nnunet.source_grid import SourceGridLabels
from inference.nnunet.tiles import TILE_STEP, Planes, TileGrid, predict_planes

log = logging.getLogger(__name__)

CHECKPOINT_NAME = "checkpoint_final.pth"
CUDA_BATCH = 4  # tiles per batch at first; halved when memory runs out

Fold = int | str


class TrainedModel:
    """One nnU-Net on a device, ready to predict. The logits of several folds are averaged.

    Parameters
    ----------
    networks
        One per fold.
    channels
        Names of the input channels in ``channels.CHANNELS``.
    mirroring_axes
        Axes of the patch, 0 to 2, that training mirrored.
    use_mirroring
        Average over all flips along ``mirroring_axes``: up to eight times the work for a little more accuracy.
    tile_step
        Distance of neighbouring tiles as a fraction of the patch.
    """

    def __init__(
        self,
        plans: Plans,
        labels: Labels,
        networks: Sequence[nn.Module],
        *,
        channels: Sequence[str],
        mirroring_axes: Sequence[int] = (),
        use_mirroring: bool = False,
        tile_step: float = TILE_STEP,
        device: torch.device,
    ) -> None:
        self.plans = plans
        self.labels = labels
        self.channels = tuple(channels)
        self.device = device
        self._networks = [_placed(network.eval(), device) for network in networks]
        self._flips = _flips(mirroring_axes) if use_mirroring else [()]
        self._tile_step = tile_step
        self._batch_size = CUDA_BATCH if device.type == "cuda" else 1

    def predict_labels(
        self,
        prepared: ModelInput,
        outputs: list[torch.Tensor] | None = None,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.uint8]:
        """Return the labels of a volume that was prepared for this model.

        Parameters
        ----------
        outputs
            A list to which the logits (label, z, y, x) on the model grid are appended, in groups of planes.
        on_tile
            Called with the number of tiles done and their total.

        Returns
        -------
        NDArray
            (z, y, x) uint8 on the grid and in the orientation of the voxels given to ``Preprocessing``.

        Raises
        ------
        ResourcesExhaustedError
            Memory ran out even with the smallest batch.
        """
        result = SourceGridLabels(prepared, self.plans, self.labels)
        for planes in self.predict_logits(prepared, on_tile):
            result.add(planes)
            if outputs is not None:
                outputs.append(planes.logits.half().cpu())
        return result.finish()

    def predict_logits(
        self, prepared: ModelInput, on_tile: Callable[[int, int], None] | None = None
    ) -> Iterator[Planes]:
        """Yield the logits on the model grid, planes in order, as soon as they are finished."""
        shape = prepared.values.shape
        grid = TileGrid((shape[1], shape[2], shape[3]), self.plans.patch_size, self._tile_step)
        return predict_planes(
            prepared.values,
            grid,
            self._predict_tiles,
            n_heads=self.labels.n_heads,
            batch_size=self._batch_size,
            on_tile=on_tile,
        )

    @torch.inference_mode()
    def _predict_tiles(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return the logits of some tiles; use smaller batches, then the CPU, when memory runs out."""
        while True:
            try:
                batches = torch.split(tiles, self._batch_size)
                return torch.cat([self._average(batch.to(self.device)).to(tiles.device) for batch in batches])
            except torch.OutOfMemoryError as error:
                self._retreat(tiles, error)
            except (MemoryError, RuntimeError) as error:
                if not isinstance(error, MemoryError) and "not enough memory" not in str(error):
                    raise
                raise ResourcesExhaustedError("segmentation", tuple(tiles.shape[2:])) from error

    def _average(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return the mean logits over folds and flips."""
        total: torch.Tensor | None = None
        with torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            for network, axes in itertools.product(self._networks, self._flips):
                logits = network(tiles.flip(axes)).flip(axes) if axes else network(tiles)
                total = logits.float() if total is None else total.add_(logits)
        if total is None:
            raise ValueError("a trained model needs at least one network")
        count = len(self._networks) * len(self._flips)
        return total.div_(count) if count > 1 else total

    def _retreat(self, tiles: torch.Tensor, error: torch.OutOfMemoryError) -> None:
        """Halve the batch size; if it is one already, move the model from the accelerator to the CPU for good."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self._batch_size > 1:
            self._batch_size //= 2
        elif self.device.type != "cpu":
            log.warning("accelerator has too little memory for one tile; the model runs on the CPU until a restart")
            self.device = torch.device("cpu")
            self._networks = [_placed(network, self.device) for network in self._networks]
        else:
            raise ResourcesExhaustedError("segmentation", tuple(tiles.shape[2:])) from error


def load_trained_model(
    folder: Path,
    *,
    configuration: str | None = None,
    folds: Sequence[Fold] | None = None,
    channels: Sequence[str] | None = None,
    device: torch.device,
    use_mirroring: bool = False,
    tile_step: float = TILE_STEP,
) -> TrainedModel:
    """Load a trained-model folder: plans.json, dataset.json and fold_N/checkpoint_final.pth.

    Parameters
    ----------
    configuration
        None for the one that the checkpoint was trained with.
    folds
        None for all numbered folds that have a checkpoint or, if there are none, ``fold_all``.
    channels
        None for the image alone.

    Raises
    ------
    ModelError
        A file or entry of the folder is missing, wrong, unsupported or unsafe.
    """
    checkpoints = [read_checkpoint(path) for path in checkpoint_paths(folder, folds)]
    name = configuration or checkpoints[0].configuration
    plans = read_plans(folder / "plans.json", name)
    labels = read_labels(folder / "dataset.json")
    channels = tuple(channels or ("image",))
    _check_channels(folder, plans, channels)
    networks = [_network(plans, labels, checkpoint) for checkpoint in checkpoints]
    return TrainedModel(
        plans,
        labels,
        networks,
        channels=channels,
        mirroring_axes=checkpoints[0].mirroring_axes,
        use_mirroring=use_mirroring,
        tile_step=tile_step,
        device=device,
    )


def checkpoint_paths(folder: Path, folds: Sequence[Fold] | None) -> list[Path]:
    """Return the checkpoints of the chosen folds; of all numbered folds, or else ``fold_all``, if ``folds`` is None."""
    if folds is not None:
        return [folder / f"fold_{fold}" / CHECKPOINT_NAME for fold in folds]
    found = sorted(folder.glob(f"fold_*/{CHECKPOINT_NAME}"))
    numbered = [path for path in found if path.parent.name != "fold_all"]
    if not found:
        raise ModelFileMissingError(str(folder / "fold_0" / CHECKPOINT_NAME), "the weights")
    return numbered or found


def choose_device(name: str) -> torch.device:
    """Return the torch device of that name; ``auto`` is the first CUDA device if there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def _placed(network: nn.Module, device: torch.device) -> nn.Module:
    """Return the network on a device, with layers optimised for the CPU there."""
    network = network.to(device)
    return optimise_for_cpu(network) if device.type == "cpu" else network


def _network(plans: Plans, labels: Labels, checkpoint: Checkpoint) -> nn.Module:
    network = build_network(plans.architecture, plans.patch_size, plans.n_channels, labels.n_heads)
    load_weights(network, checkpoint)
    return network


def _check_channels(folder: Path, plans: Plans, channels: Sequence[str]) -> None:
    """Raise unless plans.json, dataset.json and model.yaml agree on the number of channels."""
    names = channel_names(folder / "dataset.json")
    if len(names) != plans.n_channels:
        found, expected = f"{len(names)} channels", f"{plans.n_channels}, as plans.json normalises"
        raise ModelKeyError(str(folder / "dataset.json"), "channel_names", found, expected)
    if len(channels) != plans.n_channels:
        found, expected = ", ".join(channels), f"{plans.n_channels} channels, as in plans.json ({', '.join(names)})"
        raise ModelKeyError(str(folder / "model.yaml"), "channels", found, expected)


def _flips(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Return all combinations of batch axes to flip, no flip first; axis 0 of the patch is axis 2 of a batch."""
    shifted = [axis + 2 for axis in axes]
    return [chosen for count in range(len(shifted) + 1) for chosen in itertools.combinations(shifted, count)]
