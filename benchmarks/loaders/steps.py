"""Time of a step at equal network, patch and batch: ours, and the losses and the SparK module of the other programs.

``python -m benchmarks.loaders.steps volume-fusion|anatomask``, with nnssl's packages or AnatoMask's folder on
``PYTHONPATH``. The two take turns, step by step, so that both meet the same machine.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.loaders.measure import BATCH_SIZE, tell
from pretraining import anatomask, volume_fusion
from pretraining.dataset import ArrayVolume
from pretraining.method import Method, Moment, sample_rng, stack, step_rng
from pretraining.networks import NetworkPlan, build_network, plan_from_preset

SIDE = 40
N_WARM, N_STEPS = 2, 7
HALF = Moment(500, 1000)  # from the middle of a run: AnatoMask's teacher is asked in every step
Step = Callable[[int], None]


def plan() -> NetworkPlan:
    """Return a residual network, 8-16-32-64 channels."""
    plans = plan_from_preset("small-residual").plans
    (name,) = plans["configurations"]
    changed = {"patch_size": [SIDE] * 3, "batch_size": BATCH_SIZE}
    return NetworkPlan({**plans, "configurations": {name: {**plans["configurations"][name], **changed}}})


def batches(method: Method, n_batches: int) -> list[dict[str, Tensor]]:
    """Return batches of noise that is body everywhere."""
    rng = np.random.default_rng(0)
    whole = np.ones((SIDE + 32,) * 3, np.bool_)
    volume = ArrayVolume("noise", rng.normal(size=whole.shape).astype(np.float32), whole, ~whole)
    return [
        stack(method.sampler(volume, sample_rng(0, step, number)) for number in range(BATCH_SIZE))
        for step in range(n_batches)
    ]


def our_step(method: Method, drawn: list[dict[str, Tensor]]) -> Step:
    """Return what the training loop does in a step."""
    optimizer, schedule = method.configure(1000)
    method.module.train()

    def step(number: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        method.loss(method.module, drawn[number], HALF, step_rng(0, number)).loss.backward()  # type: ignore[no-untyped-call]
        if method.clip_norm is not None:
            nn.utils.clip_grad_norm_(method.module.parameters(), method.clip_norm)
        optimizer.step()
        schedule.step()
        method.after_step(HALF)

    return step


def nnssl_step(drawn: list[dict[str, Tensor]]) -> Step:
    """Return a step of nnssl's VolumeFusionTrainer: its loss, clipping and optimiser."""
    sys.path.append(os.environ["NNSSL_PACKAGES"])
    from nnssl.training.loss.compound_losses import DC_and_CE_loss
    from nnssl.training.loss.dice import MemoryEfficientSoftDiceLoss

    network = build_network(plan(), n_classes=5)
    dice = {"batch_dice": False, "smooth": 1e-5, "do_bg": True, "ddp": False}
    loss = DC_and_CE_loss(
        dice, {}, weight_ce=1, weight_dice=1, ignore_label=None, dice_class=MemoryEfficientSoftDiceLoss
    )
    optimizer = torch.optim.SGD(network.parameters(), 1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5)

    def step(number: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(network(drawn[number]["image"]), drawn[number]["classes"].float()).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()

    return step


class HierarchicalEncoder(nn.Module):
    """The encoder of a stock network, as AnatoMask's SparseEncoder asks for one."""

    def __init__(self, encoder: Any) -> None:  # noqa: ANN401 - of the stock package
        super().__init__()
        self.encoder = encoder

    def get_downsample_ratio(self) -> int:
        """Return the total stride."""
        return int(np.prod([stride[0] for stride in self.encoder.strides]))

    def get_feature_map_channels(self) -> list[int]:
        """Return the channels of the stages with a stride."""
        return list(self.encoder.output_channels[1:])

    def forward(self, voxels: Tensor, *, hierarchical: bool = True) -> list[Tensor]:  # noqa: ARG002
        """Return the features of these stages."""
        features: list[Tensor] = self.encoder(voxels)
        return features[1:]


def let_torchvision_load() -> torch.library.Library:
    """Name the operators of a torchvision for CUDA next to a torch without it: timm imports it and does not use them.

    The names are known as long as what is returned is kept.
    """
    library = torch.library.Library("torchvision", "FRAGMENT")
    if torch.version.cuda is None and "+cpu" not in importlib.metadata.version("torchvision"):
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def released_step(drawn: list[dict[str, Tensor]]) -> Step:
    """Return a step of AnatoMask's script for one GPU, with a stock encoder instead of its STU-Net."""
    operators = let_torchvision_load()
    from AnatoMask import SparK
    from decoder3D import LightDecoder
    from encoder3D import SparseEncoder
    from timm.utils import ModelEma

    del operators
    stock = HierarchicalEncoder(build_network(plan(), n_classes=2).get_submodule("encoder"))
    width = stock.get_feature_map_channels()[-1]
    encoder = SparseEncoder(stock, input_size=(SIDE, SIDE, SIDE), sbn=False)
    decoder = LightDecoder(encoder.downsample_ratio, sbn=False, width=width, out_channel=1)
    model = SparK(sparse_encoder=encoder, dense_decoder=decoder, mask_ratio=0.6, densify_norm="in")
    teacher = ModelEma(model, decay=0.999)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-5)
    model.train()

    def step(number: int) -> None:
        image = drawn[number]["image"]
        first = model.mask(BATCH_SIZE, image.device)
        with torch.no_grad():
            blocks, restored = teacher.ema(image, active_b1ff=first)
            errors = ((restored - blocks) ** 2).mean(dim=2) * first.logical_not().int().view(BATCH_SIZE, -1)
        mask, _ = teacher.ema.generate_mask(errors, guide=True, epoch=HALF.step, total_epoch=HALF.n_steps - 1)
        blocks, restored = model(image, active_b1ff=mask)
        loss, _ = model.forward_loss(blocks, restored, mask)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 12)
        optimizer.step()
        teacher.update(model)

    return step


def main(name: str) -> None:
    """Time both, taking turns."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = {"volume-fusion": volume_fusion, "anatomask": anatomask}[name]
    method: Method = module.build(module.Options(), plan(), use_masks=True)
    drawn = batches(method, N_WARM + N_STEPS)
    steps = {"ours": our_step(method, drawn)}
    steps["other"] = nnssl_step(drawn) if name == "volume-fusion" else released_step(drawn)
    seconds: dict[str, list[float]] = {key: [] for key in steps}
    for number in range(N_WARM + N_STEPS):
        for key, step in steps.items():
            began = time.process_time()
            step(number)
            seconds[key].append(time.process_time() - began)
    tell({key: float(np.median(values[N_WARM:])) for key, values in seconds.items()})


if __name__ == "__main__":
    main(sys.argv[1])
