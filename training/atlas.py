"""Locate the anatomy: register every head to the template that comes with pydeface.

A registration is an affine map from the scan's LPS mm to the template's LPS mm. The template comes with pydeface's face
mask; the brain mask is the average of the label maps in template space. Registrations are slow and are therefore stored
as JSON.

References
----------
O. F. Gulban et al., poldracklab/pydeface (template and mask). N. Otsu, A threshold selection method from gray-level
histograms, IEEE Transactions on Systems, Man, and Cybernetics 9 (1979). D. Mattes et al., PET-CT image registration in
the chest using free-form deformations, IEEE Transactions on Medical Imaging 22 (2003).
"""

# SimpleITK ships stubs without types.
# mypy: allow-untyped-calls

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from training.inventory import Scan, read_scan

REGISTRATION_MM = 4.0
CROWN_DEPTH_MM = 130.0  # heads are aligned by the part down to this far below the crown, because necks differ in length


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """The pydeface template: average head and the mask of what pydeface keeps (1) and removes (0)."""

    head: Scan
    keep: NDArray[np.float32]


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Return template and mask of the installed ``pydeface`` package (MIT licence)."""
    folder = Path(str(files("pydeface"))) / "data"
    return Template(head=read_scan(folder / "mean_reg2mean.nii.gz"), keep=read_scan(folder / "facemask.nii.gz").voxels)


def to_sitk(voxels: NDArray[np.float32], affine: NDArray[np.float64]) -> sitk.Image:
    """Return an array (slice, row, column) with its affine to LPS mm as a SimpleITK image."""
    image = sitk.GetImageFromArray(voxels)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing[::-1].tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing)[:, ::-1].ravel().tolist())
    return image


def crown_centre_mm(scan: Scan) -> NDArray[np.float64]:
    """Return the centre of the upper head in LPS mm, (3,), located by Otsu's threshold and the crown."""
    image = to_sitk(scan.voxels, scan.affine)
    smooth = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(image, 3.0))
    threshold = otsu(smooth)
    labelled, n_parts = ndimage.label(smooth > threshold)
    if n_parts == 0:
        return np.asarray((scan.affine @ [*(np.array(scan.voxels.shape) / 2), 1.0])[:3])
    sizes = np.bincount(labelled.ravel())
    sizes[0] = 0
    body = labelled == sizes.argmax()
    top = int(np.nonzero(body.sum(axis=(1, 2)) * np.prod(scan.spacing_mm[1:]) > 400.0)[0].max())
    body[: max(0, top - int(CROWN_DEPTH_MM / scan.spacing_mm[0]))] = False
    return np.asarray((scan.affine @ [*np.argwhere(body).mean(axis=0), 1.0])[:3])


def otsu(values: NDArray[np.float32]) -> float:
    """Return Otsu's threshold of values (slice, row, column) between their 0.5 and 99.5 percentiles."""
    low, high = np.percentile(values[::2, ::2, ::2], [0.5, 99.5])
    counts, edges = np.histogram(values[::2, ::2, ::2], bins=256, range=(low, max(high, low + 1e-6)))
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    mean_below = np.cumsum(counts * centres) / np.maximum(below, 1)
    mean_above = (np.sum(counts * centres) - np.cumsum(counts * centres)) / np.maximum(above, 1)
    return float(centres[np.argmax(below * above * (mean_below - mean_above) ** 2)])


def register_to_template(scan: Scan) -> NDArray[np.float64]:
    """Return the (4, 4) affine from the scan's LPS mm to the template's that maximises Mattes mutual information."""
    template = load_template().head
    fixed = _coarse(template)
    moving = _coarse(scan)
    start = sitk.AffineTransform(3)
    centre = crown_centre_mm(template)
    start.SetCenter(centre.tolist())
    start.SetTranslation((crown_centre_mm(scan) - centre).tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.3, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.01, 150, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([4.0, 2.0])
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
    method.SetInitialTransform(start, inPlace=True)
    method.SetNumberOfThreads(1)
    method.Execute(fixed, moving)
    matrix = np.array(start.GetMatrix()).reshape(3, 3)
    offset = np.array(start.GetTranslation()) + centre - matrix @ centre
    template_to_scan = np.eye(4)
    template_to_scan[:3, :3], template_to_scan[:3, 3] = matrix, offset
    return np.asarray(np.linalg.inv(template_to_scan))


def _coarse(scan: Scan) -> sitk.Image:
    image = to_sitk(scan.voxels, scan.affine)
    low, high = np.percentile(scan.voxels, [1.0, 99.0])
    image = sitk.Clamp(image, lowerBound=float(low), upperBound=float(high))
    image = sitk.SmoothingRecursiveGaussian(image, 0.5 * REGISTRATION_MM)
    size = np.maximum(np.array(image.GetSize()) * np.array(image.GetSpacing()) / REGISTRATION_MM, 8).astype(int)
    spacing = np.array(image.GetSize()) * np.array(image.GetSpacing()) / size
    return sitk.Resample(
        image,
        size.tolist(),
        sitk.Transform(),
        sitk.sitkLinear,
        image.GetOrigin(),
        spacing.tolist(),
        image.GetDirection(),
    )


def read_registrations(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return stored registrations by volume id; empty if the file does not exist yet."""
    if not path.is_file():
        return {}
    return {name: np.array(matrix) for name, matrix in json.loads(path.read_text("utf-8")).items()}


def keep_registrations(path: Path, registrations: dict[str, NDArray[np.float64]]) -> None:
    """Write the registrations atomically."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps({name: matrix.tolist() for name, matrix in registrations.items()}), "utf-8")
    part.replace(path)


@dataclass(frozen=True, slots=True, eq=False)
class BrainAtlas:
    """Share of people whose brain covers each position of the template."""

    probability: NDArray[np.float32]  # (slice, row, column), 0 to 1
    affine: NDArray[np.float64]  # (4, 4) array index to template LPS mm


def sample_at(
    values: NDArray[np.float32], affine: NDArray[np.float64], places_mm: NDArray[np.float32], *, outside: float = 0.0
) -> NDArray[np.float32]:
    """Return trilinear values of a volume at positions in mm, (3, ...); ``outside`` beyond its grid.

    ``affine`` is the (4, 4) map from array index to the space of the positions.
    """
    inverse = np.linalg.inv(affine)
    indices = np.tensordot(inverse[:3, :3], places_mm, axes=1) + inverse[:3, 3].reshape(3, *[1] * (places_mm.ndim - 1))
    return np.asarray(
        ndimage.map_coordinates(
            values, indices.astype(np.float32), order=1, mode="constant", cval=outside, prefilter=False
        )
    )


def average_brain(brains: list[tuple[NDArray[np.bool_], NDArray[np.float64]]]) -> BrainAtlas:
    """Return the average of brain masks on a 3 mm template grid; each comes with its affine to template LPS mm."""
    template = load_template().head
    extent_mm = np.array(template.voxels.shape) * template.spacing_mm
    shape = tuple(int(size) for size in np.ceil(extent_mm / 3.0))
    affine = template.affine @ np.diag([*(3.0 / template.spacing_mm), 1.0])
    grid = np.indices(shape).reshape(3, -1)
    places = (affine[:3, :3] @ grid + affine[:3, 3:]).reshape(3, *shape).astype(np.float32)
    total = np.zeros(shape, np.float32)
    for brain, index_to_template in brains:
        total += sample_at(ndimage.uniform_filter(brain.astype(np.float32), 3), index_to_template, places)
    return BrainAtlas((total / len(brains)).astype(np.float32), affine)
