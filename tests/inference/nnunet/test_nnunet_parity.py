"""The same labels as nnU-Net's own predictor, from the same weights, on real volumes."""

import io
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inference.nnunet.preprocessing import Preprocessing
from inference.nnunet.trained_model import load_trained_model
from tests.tiny_models import write_tiny_model

pytest.importorskip("nnunetv2", reason="the stock nnU-Net is only installed for comparison")
pytestmark = [pytest.mark.data, pytest.mark.filterwarnings("ignore")]  # nnU-Net warns about its own imports

Spacing = tuple[float, float, float]
PATCH = {"patch_size": (16, 24, 20)}
MR, CT = "ixi033_t1", "scct"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def real_volume(shared_data: Path, name: str) -> tuple[NDArray[np.float32], Spacing]:
    """Middle of a volume, (z, y, x) with three different sizes."""
    image = nib.load(shared_data / "volumes" / f"{name}.nii.bz2")
    voxels = np.asarray(image.dataobj, dtype=np.float32).transpose(2, 1, 0)
    x_mm, y_mm, z_mm = (float(size) for size in image.header.get_zooms()[:3])
    return np.ascontiguousarray(voxels[24:60, 30:86, 32:80]), (z_mm, y_mm, x_mm)


def stock_labels(
    folder: Path,
    voxels: NDArray[np.float32],
    spacing_mm: Spacing,
    *,
    mirroring: bool = False,
    sums: torch.dtype = torch.float32,
) -> Any:
    """Labels of nnU-Net's predictor; it sums its tiles in float16 unless told otherwise, which only a patch can do."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    with redirect_stdout(io.StringIO()):
        predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=mirroring, allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder), None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "half", sums)
            return predictor.predict_single_npy_array(voxels[None], {"spacing": list(spacing_mm)})


def our_labels(
    folder: Path, voxels: NDArray[np.float32], spacing_mm: Spacing, *, mirroring: bool = False
) -> NDArray[np.uint8]:
    model = load_trained_model(folder, device=torch.device("cpu"), use_mirroring=mirroring)
    prepared = Preprocessing(voxels, spacing_mm).prepare(model.plans, model.channels)
    return model.predict_labels(prepared)


def dice(ours: NDArray[Any], stock: NDArray[Any], label: int) -> float:
    both = np.count_nonzero((ours == label) & (stock == label))
    return 2.0 * both / (np.count_nonzero(ours == label) + np.count_nonzero(stock == label))


CASES: Mapping[str, tuple[str, float, dict[str, Any]]] = {
    "isotropic": (MR, 1.0, {"spacing_mm": (3.0, 3.0, 3.0)}),
    "finer than the source": (MR, 1.0, {"spacing_mm": (1.6, 1.7, 1.8), "seed": 3}),
    "thick slices in the source": (MR, 4.0, {"spacing_mm": (3.0, 2.5, 2.5)}),
    "thick slices in the plans": (
        MR,
        1.0,
        {"spacing_mm": (7.0, 2.0, 2.0), "patch_size": (8, 32, 24), "strides": ((1, 1, 1), (1, 2, 2))},
    ),
    "axes transposed": (MR, 1.0, {"spacing_mm": (7.0, 2.5, 2.5), "transpose_forward": (2, 0, 1)}),
    "normalised inside the non-zero region": (MR, 1.0, {"use_mask_for_norm": True}),
    "no resampling": (MR, 1.0, {"spacing_mm": (2.0, 2.0, 2.0), "residual": True}),
    "CT": (CT, 1.0, {"normalization": "CTNormalization", "seed": 2}),
    "CT, thick slices": (CT, 4.0, {"normalization": "CTNormalization", "spacing_mm": (2.0, 3.0, 3.0)}),
    "rescaled to 0..1": (MR, 1.0, {"normalization": "RescaleTo01Normalization"}),
}


@pytest.mark.parametrize("case", CASES)
def test_labels_equal_those_of_the_stock_predictor(case: str, shared_data: Path, tmp_path: Path) -> None:
    name, thickness, options = CASES[case]
    voxels, spacing_mm = real_volume(shared_data, name)
    voxels = np.ascontiguousarray(voxels[:: int(thickness)])
    spacing_mm = (spacing_mm[0] * thickness, *spacing_mm[1:])
    folder = write_tiny_model(tmp_path, "anonymized", **{**PATCH, **options})

    stock = stock_labels(folder, voxels, spacing_mm)
    ours = our_labels(folder, voxels, spacing_mm)

    assert all(np.count_nonzero(stock == label) > 300 for label in (1, 2)), "the case shows nothing"
    assert np.count_nonzero(ours != stock) <= 2e-5 * stock.size  # single voxels on a tie
    assert min(dice(ours, stock, label) for label in (1, 2)) >= 0.9999


def test_the_mask_is_that_of_the_stock_predictor_with_its_half_precision(shared_data: Path, tmp_path: Path) -> None:
    voxels, spacing_mm = real_volume(shared_data, MR)
    options = {**PATCH, "normalization": "ZScoreNormalization", "spacing_mm": (3.0, 3.0, 3.0)}
    folder = write_tiny_model(tmp_path, "foreground", above=0.2, **options)

    stock = stock_labels(folder, voxels, spacing_mm, sums=torch.float16)
    ours = our_labels(folder, voxels, spacing_mm)

    assert 0.2 < stock.mean() < 0.8, "the case shows nothing"
    assert dice(ours, stock, 1) >= 0.999


def test_two_labels_two_folds_and_mirroring_agree(shared_data: Path, tmp_path: Path) -> None:
    voxels, spacing_mm = real_volume(shared_data, MR)
    folder = write_tiny_model(
        tmp_path, "foreground", n_folds=2, seed=5, spacing_mm=(4.0, 4.0, 4.0), patch_size=(16, 16, 12)
    )

    stock = stock_labels(folder, voxels, spacing_mm, mirroring=True)
    ours = our_labels(folder, voxels, spacing_mm, mirroring=True)

    assert 0.02 < stock.mean() < 0.98, "the case shows nothing"
    assert np.count_nonzero(ours != stock) <= 2e-5 * stock.size


@pytest.mark.parametrize("shape", [(1, 40, 50), (3, 4, 5), (70, 6, 33)])
def test_volumes_smaller_than_a_patch_agree(shape: tuple[int, int, int], tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).normal(100.0, 40.0, shape).astype(np.float32)
    folder = write_tiny_model(tmp_path, "anonymized", spacing_mm=(2.0, 2.0, 2.0), **PATCH)

    stock = stock_labels(folder, voxels, (3.0, 2.0, 1.5))
    ours = our_labels(folder, voxels, (3.0, 2.0, 1.5))

    assert np.count_nonzero(ours != stock) <= 2e-4 * stock.size
