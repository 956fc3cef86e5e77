"""The reference training's parts: loss, network input, and a folder that stock nnU-Net loads."""

from __future__ import annotations

import json
import warnings
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from inference.nnunet.channels import CHANNELS
from training.reference.export import export_model
from training.reference.feed import Drawn, Reservoir, remember
from training.reference.loop import Settings, schedule_of
from training.reference.loss import dice_and_cross_entropy
from training.reference.network import DESIGNS, build_network
from training.samples import CHANNEL_NAMES, IGNORE, Sample, downsample_labels, preprocess


def test_ignored_voxels_do_not_change_the_loss() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 4, 4), torch.randint(0, 3, (2, 4, 4, 4))
    target[:, :, :, 2:] = IGNORE
    other = logits.clone()
    other[..., 2:] += 5 * torch.randn_like(other[..., 2:])
    assert dice_and_cross_entropy(logits, target, (1, 2)) == dice_and_cross_entropy(other, target, (1, 2))


def test_a_batch_with_everything_ignored_teaches_nothing() -> None:
    logits = torch.randn(1, 2, 4, 4, 4, requires_grad=True)
    loss = dice_and_cross_entropy(logits, torch.full((1, 4, 4, 4), IGNORE), (1,))
    loss.backward()
    assert loss == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_sure_and_right_network_has_no_loss_and_an_empty_batch_no_dice() -> None:
    target = torch.zeros((1, 4, 4, 4), dtype=torch.long)
    sure = torch.tensor([20.0, -20.0, -20.0]).reshape(1, 3, 1, 1, 1).expand(1, 3, 4, 4, 4)
    assert dice_and_cross_entropy(sure, target, (1,)) == pytest.approx(0.0, abs=1e-6)
    target[0, :2] = 1
    right = torch.where(torch.nn.functional.one_hot(target, 3).movedim(-1, 1) > 0, 20.0, -20.0)
    assert dice_and_cross_entropy(right, target, (1,)) == pytest.approx(0.0, abs=1e-5)


def test_a_label_without_dice_is_taught_by_cross_entropy_alone() -> None:
    logits = torch.zeros((1, 3, 2, 2, 2))
    target = torch.zeros((1, 2, 2, 2), dtype=torch.long)
    target[0, 0] = 2
    assert dice_and_cross_entropy(logits, target, (1,)) == pytest.approx(np.log(3))
    assert dice_and_cross_entropy(logits, target, (1, 2)) > np.log(3) + 0.5


def test_more_minutes_after_the_end_are_a_second_lower_cosine() -> None:
    first = schedule_of(Settings(minutes=10), 0.0, None)
    assert [first.rate_at(0.0), first.rate_at(300.0), first.rate_at(600.0)] == pytest.approx([2e-3, 1.02e-3, 4e-5])
    assert schedule_of(Settings(minutes=10), 300.0, first) == first
    second = schedule_of(Settings(minutes=30), 601.0, first)
    assert second.rate_at(601.0) == pytest.approx(1.2e-3, rel=1e-3)
    assert second.rate_at(1800.0) == pytest.approx(2.4e-5)


def test_downsampled_labels_keep_the_larger_share() -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[:3] = 2
    labels[3:, :3] = IGNORE
    small = downsample_labels(labels, (2, 2, 2))
    assert small.tolist() == [[[2, 2], [2, 2]], [[IGNORE, IGNORE], [0, 0]]]


@pytest.mark.parametrize("role", list(DESIGNS))
def test_stock_nnunet_loads_the_folder_and_sees_the_same_input(role: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictor_module = pytest.importorskip("nnunetv2.inference.predict_from_raw_data")
        torch.set_num_threads(1)
        torch.manual_seed(1)
        network = build_network(DESIGNS[role]).eval()
        export_model(tmp_path, DESIGNS[role], network, steps=3)
        predictor = predictor_module.nnUNetPredictor(
            use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
        )
        predictor.initialize_from_trained_model_folder(str(tmp_path), (0,), "checkpoint_final.pth")
        voxels = np.random.default_rng(2).normal(300.0, 40.0, (40, 52, 31)).astype(np.float32)
        spacing_mm = [2.4, 1.7, 3.6]
        raw = np.stack([CHANNELS[name](voxels) for name in CHANNEL_NAMES])
        preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
        stock, _, _ = preprocessor.run_case_npy(
            raw, None, {"spacing": spacing_mm}, predictor.plans_manager, predictor.configuration_manager,
            predictor.dataset_json,
        )  # fmt: skip
        ours = preprocess(voxels, np.array(spacing_mm))
        np.testing.assert_allclose(np.asarray(stock), ours.numpy(), atol=1e-4)
        stock_logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(np.asarray(stock)).float())
    assert stock_logits.shape[0] == len(DESIGNS[role].labels)
    description = yaml.safe_load((tmp_path / "model.yaml").read_text("utf-8"))
    assert description["channels"] == list(
        json.loads((tmp_path / "dataset.json").read_text())["channel_names"].values()
    )
    assert (tmp_path / "fold_0" / "checkpoint_final.pth").stat().st_size < 8_000_000


def drawn(value: int) -> Drawn:
    channels = np.zeros((1, 2, 2, 2), np.float16)
    labels = np.full((2, 2, 2), value, np.uint8)
    return Drawn([Sample(channels, labels, labels, "defaced"), Sample(channels, labels, labels, "intact")])


def test_groups_in_which_something_was_painted_falsely_come_more_often() -> None:
    reservoir = object.__new__(Reservoir)  # without its process
    reservoir.groups, reservoir.rng = deque([drawn(1), drawn(2)]), np.random.default_rng(0)
    easy, hard = reservoir.groups
    remember([hard, hard, easy, easy], [0.04, 0.001, 0.0, 0.0])
    assert (easy.false_share, hard.false_share) == (0.0, 0.04)
    owners = [reservoir.batch(2, paired=True)[1][0] for _ in range(600)]
    assert sum(owner is hard for owner in owners) == pytest.approx(500, abs=50)  # (0.01 + 0.04) against 0.01
    owners = [reservoir.batch(2, paired=False)[1][0] for _ in range(600)]
    assert sum(owner is hard for owner in owners) == pytest.approx(300, abs=60)


def test_a_pair_is_a_defaced_head_and_the_same_one_untouched() -> None:
    reservoir = object.__new__(Reservoir)
    reservoir.groups, reservoir.rng = deque([drawn(1)]), np.random.default_rng(0)
    samples, owners = reservoir.batch(2, paired=True)
    assert [sample.kind for sample in samples] == ["defaced", "intact"]
    assert owners[0] is owners[1]
