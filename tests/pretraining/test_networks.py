"""Networks from presets and from plans are nnU-Net's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from pretraining.networks import PRESETS, PlansError, build_network, plan_from_preset, read_plan


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_network_that_nnunet_builds_from_its_plans(name: str) -> None:
    plan = plan_from_preset(name, n_channels=2)
    architecture = plan.architecture
    with torch.device("meta"):
        stock = get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            input_channels=2,
            output_channels=5,
            allow_init=False,
            deep_supervision=False,
        )
    ours = build_network(plan, n_classes=5, device=torch.device("meta"))
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in stock.state_dict().items()}


def test_resencl_has_the_stages_that_nnunets_planner_chooses_for_its_patch() -> None:
    plan = plan_from_preset("ResEncL")
    _, strides, kernels, _, _ = get_pool_and_conv_props(plan.spacing_mm, plan.patch_size, 4, 999999)
    arguments = plan.architecture["arch_kwargs"]
    assert arguments["strides"] == [list(stride) for stride in strides]
    assert arguments["kernel_sizes"] == [list(kernel) for kernel in kernels]
    assert arguments["n_blocks_per_stage"] == [1, 3, 4, 6, 6, 6]  # the planner's UNet_blocks_per_stage_encoder
    assert arguments["features_per_stage"] == [min(320, 32 * 2**stage) for stage in range(6)]


def test_plans_of_a_preset_have_what_nnunets_preprocessing_reads_of_each_channel() -> None:
    properties = plan_from_preset("small", n_channels=2).plans["foreground_intensity_properties_per_channel"]
    assert list(properties) == ["0", "1"]
    assert {"mean", "std", "percentile_00_5", "percentile_99_5"} <= set(properties["1"])


def test_a_network_is_initialized_as_nnunet_does() -> None:
    network = build_network(plan_from_preset("small-residual"), n_classes=2)
    weights = network.state_dict()
    assert float(weights["encoder.stages.1.blocks.0.conv2.norm.weight"].abs().max()) == 0  # nnU-Net starts them at 0
    # He: variance 2 / ((1 + slope²) · inputs) with slope 0.01 and 64 · 27 inputs
    spread = float(weights["encoder.stages.3.blocks.1.conv1.conv.weight"].std())
    assert spread == pytest.approx((2 / (1.0001 * 64 * 27)) ** 0.5, rel=0.02)


def test_plans_of_a_target_dataset_give_network_patch_and_spacing(tmp_path: Path) -> None:
    plans = json.loads(json.dumps(plan_from_preset("small").plans))
    settings = plans["configurations"]["3d_fullres"]
    settings |= {"patch_size": [24, 40, 32], "spacing": [2.5, 1.0, 1.5]}
    plans["configurations"]["3d_cascade"] = {"inherits_from": "3d_fullres", "batch_size": 3}
    (tmp_path / "plans.json").write_text(json.dumps(plans), "utf-8")
    plan = read_plan(tmp_path / "plans.json", "3d_cascade")
    assert (plan.patch_size, plan.spacing_mm) == ((24, 40, 32), (2.5, 1.0, 1.5))
    assert (plan.batch_size, plan.n_channels, plan.total_stride) == (3, 1, (8, 8, 8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": [40, 36, 40]}, r"patch \(40, 36, 40\) is not a multiple of the total stride \(8, 8, 8\)"),
        ({"patch_size": [40, 40]}, "2 axes; only three-dimensional"),
        ({"architecture": {"network_class_name": "os.system"}}, "network os.system is not supported"),
        ({"normalization_schemes": None}, "TypeError"),
    ],
)
def test_plans_that_cannot_be_pretrained_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    plans = json.loads(json.dumps(plan_from_preset("small").plans))
    plans["configurations"]["3d_fullres"] |= change
    (tmp_path / "plans.json").write_text(json.dumps(plans), "utf-8")
    with pytest.raises(PlansError, match=message):
        read_plan(tmp_path / "plans.json")


def test_plans_import_no_name_that_is_not_known(tmp_path: Path) -> None:
    plans = json.loads(json.dumps(plan_from_preset("small").plans))
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["nonlin"] = "shutil.rmtree"
    (tmp_path / "plans.json").write_text(json.dumps(plans), "utf-8")
    with pytest.raises(PlansError, match=r"nonlin shutil\.rmtree is not supported"):
        read_plan(tmp_path / "plans.json")


def test_unknown_names_are_answered_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(PlansError, match="preset 'XL' is unknown; choose one of ResEncL, Plain"):
        plan_from_preset("XL")
    (tmp_path / "plans.json").write_text(json.dumps(plan_from_preset("small").plans), "utf-8")
    with pytest.raises(PlansError, match="no configuration '2d'; the plans have 3d_fullres"):
        read_plan(tmp_path / "plans.json", "2d")
