"""A folder that ``segment`` wrote: cuboids of known size, segmented by models with known truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from typer.testing import CliRunner, Result

from dicom_node.cli import app
from tests.factories import SyntheticSeries, ct_series, uid_of
from tests.tiny_models import write_tiny_model

SHAPE = (20, 70, 24)  # slice, row, column
SPACING_MM = 2.0
BODY, ALTERED = (slice(5, 15), slice(10, 60), slice(4, 20)), (slice(5, 9), slice(10, 20), slice(4, 20))
# In the volume with air of exactly 0: the body is longer, and an edge of it is air.
ZERO_BODY, ZERO_EDGE = (slice(5, 15), slice(1, 69), slice(4, 20)), (slice(5, 7), slice(1, 69), slice(4, 8))
N_VOXELS, N_BODY, N_ALTERED = 20 * 70 * 24, 10 * 50 * 16, 4 * 10 * 16
AIR, TISSUE, BONE = -1000.0, 300.0, 900.0
BODY_ABOVE, ALTERED_ABOVE = 150.0, 750.0


@dataclass(frozen=True)
class Segmented:
    """Where the images are, and what ``segment`` made of them."""

    images: Path
    results: Path


def run_command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="dicom-node")


def cuboid(*, altered: tuple[slice, ...] = ALTERED, ramp: float = 1.0) -> NDArray[np.float32]:
    """Tissue that grows by ``ramp`` along the columns, with an altered cuboid in its corner."""
    voxels = np.full(SHAPE, AIR, np.float32)
    voxels[BODY] = TISSUE + ramp * np.arange(16, dtype=np.float32)
    voxels[altered] = BONE
    return voxels


def zero_air() -> NDArray[np.float32]:
    voxels = np.zeros(SHAPE, np.float32)
    voxels[ZERO_BODY] = TISSUE + np.arange(16, dtype=np.float32)
    voxels[ZERO_EDGE] = 0.0
    return voxels


def write_nifti(path: Path, voxels: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    image = nib.Nifti1Image(voxels.transpose(2, 1, 0), affine)
    image.header["descrip"] = b"Doe^Jane"
    nib.save(image, path)


def ct_of(seed: str, patient_id: str, ramp: float) -> SyntheticSeries:
    """A CT series of the cuboid, in a study of its own."""

    def edit(ds: Dataset, _: int) -> None:
        ds.PatientID = patient_id
        ds.PatientName = "Doe^Jane"
        ds.StudyInstanceUID = uid_of("study", seed)

    size = {"n_slices": SHAPE[0], "rows": SHAPE[1], "columns": SHAPE[2]}
    return ct_series(voxels_hu=cuboid(ramp=ramp), spacing_mm=(SPACING_MM,) * 3, seed=seed, edit=edit, **size)


@pytest.fixture(scope="session")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> Segmented:
    root = tmp_path_factory.mktemp("segmented")
    images = root / "images"
    for session, voxels in (("a", cuboid(ramp=0.25)), ("b", zero_air())):
        file = images / "sub-01" / f"ses-{session}" / "anat" / f"sub-01_ses-{session}_T1w.nii.gz"
        write_nifti(file, voxels)
    whole = tuple(slice(part.start, part.stop - 1) for part in BODY)
    write_nifti(images / "mostly.nii.gz", cuboid(altered=whole))
    write_nifti(images / "empty.nii.gz", np.full(SHAPE, AIR, np.float32))
    write_nifti(images / "constant.nii.gz", cuboid(ramp=0.0))
    write_nifti(images / "small.nii.gz", cuboid()[:, 5:65])
    holes = cuboid(ramp=2.0)
    holes[10, 40, 10:13] = np.nan
    write_nifti(images / "holes.nii.gz", holes)
    padded = cuboid(ramp=3.0)
    padded[0, :3] = np.nan  # far from the body
    write_nifti(images / "padded.nii.gz", padded)
    for seed, patient, ramp in (("first", "P1", 4.0), ("second", "P1", 5.0), ("third", "ANON", 6.0)):
        ct_of(seed, patient, ramp).write_to(images / seed)
    models = [
        (option, write_tiny_model(root / role, role, above=above, spacing_mm=(SPACING_MM,) * 3))
        for option, role, above in (
            ("--foreground-model", "foreground", BODY_ABOVE),
            ("--anonymized-model", "anonymized", ALTERED_ABOVE),
        )
    ]
    options = [part for pair in models for part in pair]
    result = run_command("segment", images, "-o", root / "results", *options, "--device", "cpu", "--threads", "1")
    assert result.exit_code == 0, result.stderr
    return Segmented(images, root / "results")
