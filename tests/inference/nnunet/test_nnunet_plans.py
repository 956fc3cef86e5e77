"""plans.json and dataset.json: accepted in both forms, and every wrong key named with its file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.errors import ModelError
from inference.nnunet.architecture import build_network
from inference.nnunet.errors import ModelKeyError, UnsupportedModelError
from inference.nnunet.labels import read_labels
from inference.nnunet.plans import read_plans
from tests.tiny_models import CT_PROPERTIES, tiny_plans

Change = Callable[[dict[str, Any]], object]


def written(folder: Path, content: object, name: str = "plans.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def full_resolution(plans: dict[str, Any]) -> dict[str, Any]:
    return plans["configurations"]["3d_fullres"]


def arguments(plans: dict[str, Any]) -> dict[str, Any]:
    return full_resolution(plans)["architecture"]["arch_kwargs"]


WRONG: dict[str, tuple[Change, str]] = {
    "no spacing": (lambda plans: full_resolution(plans).pop("spacing"), "3d_fullres.spacing: found nothing"),
    "spacing of zero": (lambda plans: full_resolution(plans).update(spacing=[0, 1, 1]), r"spacing\.0.*above 0"),
    "spacing as text": (lambda plans: full_resolution(plans).update(spacing="1"), r"spacing: found str"),
    "huge patch": (lambda plans: full_resolution(plans).update(patch_size=[4096] * 3), "patch_size.*voxels"),
    "same axis twice": (lambda plans: plans.update(transpose_forward=[0, 1, 1]), "transpose_forward"),
    "unknown normalisation": (
        lambda plans: full_resolution(plans).update(normalization_schemes=["os.system"]),
        r"normalization_schemes\.0.*ZScoreNormalization",
    ),
    "CT without intensities": (
        lambda plans: (
            full_resolution(plans).update(normalization_schemes=["CTNormalization"]),
            plans.pop("foreground_intensity_properties_per_channel"),
        ),
        "foreground_intensity_properties_per_channel",
    ),
    "unknown resampling": (
        lambda plans: full_resolution(plans).update(resampling_fn_data="subprocess.run"),
        "resampling_fn_data.*resample_data_or_seg_to_shape",
    ),
    "inherits from itself": (
        lambda plans: full_resolution(plans).update(inherits_from="3d_fullres"),
        "without a circle",
    ),
    "cascade": (lambda plans: full_resolution(plans).update(previous_stage="3d_lowres"), "cascade is not supported"),
    "2D": (lambda plans: full_resolution(plans).update(patch_size=[64, 64]), "2D is not supported"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_key_is_named_with_its_file(what: str, tmp_path: Path) -> None:
    change, message = WRONG[what]
    plans = tiny_plans()
    change(plans)
    with pytest.raises(ModelError, match=message) as caught:
        read_plans(written(tmp_path, plans), "3d_fullres")
    assert "plans.json" in str(caught.value)


def test_an_unknown_configuration_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelKeyError, match="one of 3d_fullres"):
        read_plans(written(tmp_path, tiny_plans()), "3d_cascade")


def test_a_configuration_inherits_from_another(tmp_path: Path) -> None:
    plans = tiny_plans(spacing_mm=(4.0, 2.0, 1.0))
    plans["configurations"]["3d_fullres_bs4"] = {"inherits_from": "3d_fullres", "spacing": [5, 2, 1]}
    found = read_plans(written(tmp_path, plans), "3d_fullres_bs4")
    assert found.spacing_mm == (5.0, 2.0, 1.0)
    assert found.patch_size == (32, 32, 32)


def test_text_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    path.write_text("{")
    with pytest.raises(ModelKeyError, match="no JSON"):
        read_plans(path, "3d_fullres")


REFUSED_ARCHITECTURES: dict[str, tuple[Change, str]] = {
    "foreign class": (
        lambda plans: full_resolution(plans)["architecture"].update(network_class_name="os.system"),
        "'os.system' is not supported; supported is PlainConvUNet and ResidualEncoderUNet",
    ),
    "foreign operation": (lambda plans: arguments(plans).update(conv_op="builtins.exec"), "conv_op"),
    "our operation in a foreign module": (lambda plans: arguments(plans).update(nonlin="evil.LeakyReLU"), "nonlin"),
    "unknown argument": (lambda plans: arguments(plans).update(hook="x"), "hook"),
    "immense network": (lambda plans: arguments(plans).update(features_per_stage=[10**9, 1]), "integer from 1"),
    "strides that do not divide the patch": (
        lambda plans: arguments(plans).update(strides=[[1, 1, 1], [3, 2, 2]]),
        r"product \(3\) divides the patch \(32\)",
    ),
    "stages that contradict": (lambda plans: arguments(plans).update(n_stages=3), "arguments of PlainConvUNet"),
}


@pytest.mark.parametrize("what", REFUSED_ARCHITECTURES)
def test_an_architecture_outside_the_list_is_refused(what: str, tmp_path: Path) -> None:
    change, message = REFUSED_ARCHITECTURES[what]
    plans = tiny_plans()
    change(plans)
    found = read_plans(written(tmp_path, plans), "3d_fullres")
    with pytest.raises(ModelError, match=message):
        build_network(found.architecture, found.patch_size, 1, 2)


@pytest.mark.filterwarnings("ignore")  # nnU-Net warns about old plans
@pytest.mark.parametrize("name", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_older_plans_give_the_network_that_nnunet_makes_of_them(name: str, tmp_path: Path) -> None:
    plans_handler = pytest.importorskip("nnunetv2.utilities.plans_handling.plans_handler")
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    plans = tiny_plans()
    configuration = full_resolution(plans)
    del configuration["architecture"]
    configuration |= {
        "UNet_class_name": name,
        "UNet_base_num_features": 4,
        "unet_max_num_features": 6,
        "n_conv_per_stage_encoder": [2, 1],
        "n_conv_per_stage_decoder": [2],
        "num_pool_per_axis": [1, 1, 1],
        "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2]],
        "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3]],
    }
    found = read_plans(written(tmp_path, plans), "3d_fullres")
    ours = build_network(found.architecture, found.patch_size, 1, 2)

    manager = plans_handler.PlansManager(plans).get_configuration("3d_fullres")
    stock = get_network_from_plans(
        f"dynamic_network_architectures.architectures.unet.{name}",  # nnU-Net's own name for the second is outdated
        manager.network_arch_init_kwargs,
        manager.network_arch_init_kwargs_req_import,
        1,
        2,
        deep_supervision=False,
    )
    shapes = {key: value.shape for key, value in stock.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes


def test_the_older_name_of_the_intensities_is_read(tmp_path: Path) -> None:
    plans = tiny_plans(normalization="CTNormalization")
    plans["foreground_intensity_properties_by_modality"] = plans.pop("foreground_intensity_properties_per_channel")
    found = read_plans(written(tmp_path, plans), "3d_fullres").normalizations[0]
    assert (found.mean, found.std) == (CT_PROPERTIES["mean"], CT_PROPERTIES["std"])


def test_regions_write_in_their_order(tmp_path: Path) -> None:
    dataset = {
        "labels": {"background": 0, "whole": [1, 2], "core": 2},
        "regions_class_order": [1, 2],
    }
    labels = read_labels(written(tmp_path, dataset, "dataset.json"))
    logits = torch.tensor([[3.0, 3.0, -1.0], [-2.0, 2.0, 2.0]]).reshape(2, 1, 1, 3)
    assert labels.n_heads == 2
    assert labels.choose(logits).flatten().tolist() == [1, 2, 2]


def test_the_ignore_label_has_no_head(tmp_path: Path) -> None:
    dataset = {"labels": {"background": 0, "removed": 1, "ignore": 2}}
    assert read_labels(written(tmp_path, dataset, "dataset.json")).n_heads == 2


@pytest.mark.parametrize("labels", [{"body": 1}, {"background": 1}, {"background": 0, "body": 2}])
def test_labels_with_a_gap_or_without_background_are_refused(labels: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises((ModelKeyError, UnsupportedModelError), match=r"dataset\.json"):
        read_labels(written(tmp_path, {"labels": labels}, "dataset.json"))
