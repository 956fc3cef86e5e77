"""Determine the affine of a NIfTI file from sform, qform or pixdim, and its unit.

A header states the voxel size up to three times: in the columns of the sform, in pixdim, and in the qform, which uses
pixdim. If they disagree, the form that agrees with pixdim is nearly always right (docs/decisions/0026). Such decisions
lead to a remark; a contradiction that cannot be resolved is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from inference.series.errors import NiftiAffineError, NiftiUnitsError
from inference.series.limits import MAX_COORDINATE_MM, PIXEL_SPACINGS_MM
from inference.series.nifti_header import NiftiHeader
from inference.series.remarks import Remark, RemarkCode

MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}  # spatial codes of xyzt_units; any other code is read as millimetres
UNIT_NAMES = {1: "metres", 3: "micrometres"}
SPATIAL_BITS = 0x07
LONGEST_SIDE_MM = (30.0, 3000.0)  # of a volume that shows a person or a part of one
SIZES = (1e-9, 1e9)  # of a voxel in the header's unit, beyond any of the three
MAX_SHEAR_VOXELS = 0.25  # how far straightening the axes may move the farthest voxel
REMARKED_SHEAR_VOXELS = 0.01
MIN_SINGULAR = 1e-3  # of directions of length 1: below it two axes point in one direction
SIZE_TOLERANCE = 0.01  # of a voxel's size: above it two sizes disagree
UNSET_TOLERANCE = 1e-4  # how close to 1 all sizes are that nobody has set
MAX_DOUBT = 0.25  # of a voxel's size: a sform that is further from pixdim, without a qform, is not believed
QUATERNION_TOLERANCE = 1e-3  # of b² + c² + d² above 1: rounding

Affine = NDArray[np.float64]
_axis_codes: Any = nib.aff2axcodes  # nibabel has no types
_rotation_of_quaternion: Any = nib.quaternions.quat2mat


@dataclass(frozen=True, slots=True, eq=False)
class _Form:
    """An affine of (i, j, k) to RAS in the header's unit with axes at right angles, or why there is none."""

    affine: Affine | None
    problem: str = ""
    shear_voxels: float = 0.0


def ras_affine(header: NiftiHeader) -> tuple[Affine, tuple[Remark, ...]]:
    """Affine of (i, j, k) to RAS in millimetres, with axes at right angles, and what was decided on the way.

    Raises
    ------
    NiftiAffineError
        Nothing in the header says where the voxels lie, or what says so contradicts itself.
    NiftiUnitsError
        In the unit that the header names, the volume has a size that no person has.
    """
    remarks: list[Remark] = []
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # version 2 has numbers of 64 bits
        sform = _sform(header) if header.code("sform_code") > 0 else None
        qform = _qform(header) if header.code("qform_code") > 0 else None
        affine = _chosen(header, sform, qform, remarks)
    if sform is not None and affine is sform.affine and sform.shear_voxels > REMARKED_SHEAR_VOXELS:
        text = f"axes of the sform were off a right angle by {sform.shear_voxels:.3f} voxels"
        remarks.append(Remark(RemarkCode.AFFINE_STRAIGHTENED, text))
    if (sform is None or affine is not sform.affine) and (header.fields["pixdim"][1:4] < 0).any():
        told = _told(header.fields["pixdim"][1:4])
        remarks.append(Remark(RemarkCode.PIXDIM_NEGATIVE, f"pixdim is {told}; signs are dropped, sides may be swapped"))
    affine_mm = _in_mm(affine, header)
    distance_mm = float(np.abs(affine_mm[:3, 3]).max())
    if distance_mm > MAX_COORDINATE_MM:
        problem = f"its first voxel lies {distance_mm:.6g} mm from the origin, expected at most {MAX_COORDINATE_MM:.0f}"
        raise NiftiAffineError(header.name, f"{problem}; correct the header or export it again")
    return affine_mm, tuple(remarks)


def _chosen(header: NiftiHeader, sform: _Form | None, qform: _Form | None, remarks: list[Remark]) -> Affine:
    """Return the affine to use; add a remark if it is not simply the sform, or the qform if there is no sform."""
    if sform is None and qform is None:
        text = "neither sform nor qform is set (codes 0): sizes are from pixdim, axes are guessed as left, front, head"
        remarks.append(Remark(RemarkCode.ORIENTATION_UNKNOWN, text))
        return _from_pixdim(header)
    if sform is None or sform.affine is None:
        if qform is None or qform.affine is None:
            problems = "; ".join(form.problem for form in (sform, qform) if form is not None)
            raise NiftiAffineError(header.name, f"{problems}; correct the header or export it again")
        if sform is not None:
            remarks.append(Remark(RemarkCode.SFORM_NOT_USED, f"{sform.problem}; the qform is used"))
        return qform.affine
    return _sform_or_other(header, sform.affine, qform, remarks)


def _sform_or_other(header: NiftiHeader, affine: Affine, qform: _Form | None, remarks: list[Remark]) -> Affine:
    """Return a valid sform if it agrees with pixdim, else a more plausible affine."""
    sizes, pixdim = _sizes(affine), _pixdim(header)
    if pixdim is None:
        text = f"pixdim is {_told(header.fields['pixdim'][1:4])}, no size of voxels; the sform is used"
        remarks.append(Remark(RemarkCode.PIXDIM_NOT_USED, text))
        return affine
    ratio = float(np.abs(sizes / pixdim - 1.0).max())
    if ratio <= SIZE_TOLERANCE:
        _compare_directions(affine, qform, remarks)
        return affine
    contradiction = f"the sform has voxels of {_told(sizes)}, pixdim says {_told(pixdim)}"
    if qform is not None and qform.affine is not None:
        remarks.append(
            Remark(RemarkCode.SFORM_NOT_USED, f"{contradiction}; the qform is used, which agrees with pixdim")
        )
        return qform.affine
    if _are_unset(sizes):
        remarks.append(
            Remark(RemarkCode.SFORM_SCALED, f"{contradiction}; its directions are used with the sizes of pixdim")
        )
        scaled = affine.copy()
        scaled[:3, :3] *= pixdim / sizes
        return scaled
    if _are_unset(pixdim) or ratio <= MAX_DOUBT:
        remarks.append(
            Remark(RemarkCode.PIXDIM_NOT_USED, f"{contradiction}; the sform is used, there is no usable qform")
        )
        return affine
    problem = f"{contradiction}, and no qform says which of them is right; correct the header or export it again"
    raise NiftiAffineError(header.name, problem)


def _compare_directions(affine: Affine, qform: _Form | None, remarks: list[Remark]) -> None:
    """Add a remark if the qform is unusable or rotated against the sform in use."""
    if qform is None:
        return
    if qform.affine is None:
        remarks.append(Remark(RemarkCode.QFORM_NOT_USED, f"{qform.problem}; the sform is used"))
        return
    towards, other = ("".join(_axis_codes(one)) for one in (affine, qform.affine))
    if towards != other:
        text = f"axes point to {towards} in the sform and to {other} in the qform; the sform is used"
        remarks.append(Remark(RemarkCode.SFORM_QFORM_DIFFER, text))


def _sform(header: NiftiHeader) -> _Form:
    """The affine of three rows (method 3 of the standard)."""
    rows = [np.asarray(header.fields[field], np.float64) for field in ("srow_x", "srow_y", "srow_z")]
    affine = np.vstack([*rows, [0.0, 0.0, 0.0, 1.0]])
    for field, row in zip(("srow_x", "srow_y", "srow_z"), rows, strict=True):
        if not np.isfinite(row).all():
            return _Form(None, f"the sform has {_listed(row)} in {field}, expected numbers")
    sizes = _sizes(affine)
    if not _are_sizes(sizes):
        return _Form(None, f"the sform has voxels of {_told(sizes)}, expected sizes above 0")
    left, singular_values, right = np.linalg.svd(affine[:3, :3] / sizes)
    if singular_values[-1] < MIN_SINGULAR:
        return _Form(None, "the sform has two axes in one direction, expected right angles")
    straight = affine.copy()
    straight[:3, :3] = (left @ right) * sizes  # the nearest right-angled axes (polar decomposition)
    corners = np.array(header.shape) * np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T
    moved = float(np.abs(corners @ (straight - affine)[:3, :3].T).max() / sizes.min())
    if moved > MAX_SHEAR_VOXELS:
        return _Form(None, f"the sform is sheared: its axes are off a right angle by {moved:.2f} voxels, resample it")
    return _Form(straight, shear_voxels=moved)


def _qform(header: NiftiHeader) -> _Form:
    """The affine of a rotation, pixdim and an offset (method 2 of the standard)."""
    pixdim = _pixdim(header)
    if pixdim is None:
        return _Form(None, f"pixdim is {_told(header.fields['pixdim'][1:4])}, expected sizes above 0 for the qform")
    imaginary = np.array([header.number(f"quatern_{letter}") for letter in "bcd"])
    offset = np.array([header.number(f"qoffset_{letter}") for letter in "xyz"])
    if not np.isfinite(offset).all():
        return _Form(None, f"the qform has {_listed(offset)} in qoffset_x, y, z, expected numbers")
    square = float(imaginary @ imaginary)
    if not square <= 1.0 + QUATERNION_TOLERANCE:  # also where it is not a number
        problem = (
            f"the qform has {_listed(imaginary)} in quatern_b, c, d, no rotation: the sum of squares is {square:g}"
        )
        return _Form(None, f"{problem}, expected at most 1")
    real = np.sqrt(max(0.0, 1.0 - square))
    rotation = _rotation_of_quaternion([real, *imaginary])
    affine = np.eye(4)
    affine[:3, :3] = rotation * pixdim * (1.0, 1.0, -1.0 if header.fields["pixdim"][0] < 0 else 1.0)
    affine[:3, 3] = offset
    return _Form(affine)


def _from_pixdim(header: NiftiHeader) -> Affine:
    """Return an affine from sizes alone (method 1): i to the left, origin in the middle, as in nibabel and SPM."""
    pixdim = _pixdim(header)
    if pixdim is None:
        problem = f"pixdim is {_told(header.fields['pixdim'][1:4])}, expected sizes above 0, as neither sform nor qform"
        raise NiftiAffineError(header.name, f"{problem} is set; correct the header or export it again")
    affine = np.diag([-pixdim[0], pixdim[1], pixdim[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(header.shape) - 1) / 2)
    return affine


def _in_mm(affine: Affine, header: NiftiHeader) -> Affine:
    """The affine in millimetres, where its size can be that of a person in the header's unit."""
    code = header.code("xyzt_units") & SPATIAL_BITS
    scaled = affine.copy()
    scaled[:3] *= MM_PER_UNIT.get(code, 1.0)
    sizes_mm = _sizes(scaled)
    lowest_mm, highest_mm = LONGEST_SIDE_MM
    longest_mm = float((sizes_mm * header.shape).max())
    smallest_mm, largest_mm = PIXEL_SPACINGS_MM
    is_possible = (sizes_mm >= smallest_mm).all() and (sizes_mm <= largest_mm).all()
    if not is_possible or (code in UNIT_NAMES and not lowest_mm <= longest_mm <= highest_mm):
        problem = (
            f"xyzt_units has code {code} ({UNIT_NAMES.get(code, 'millimetres')}), which makes voxels of "
            f"{_told(sizes_mm)} mm and a volume of {longest_mm:.6g} mm, expected voxels of {smallest_mm:g} to "
            f"{largest_mm:g} mm and a volume of {lowest_mm:g} to {highest_mm:g} mm; "
        )
        way_out = (
            "set the code to 2 if sizes are in millimetres" if code in UNIT_NAMES else "correct pixdim and the sform"
        )
        raise NiftiUnitsError(header.name, problem + way_out)
    return scaled


def _pixdim(header: NiftiHeader) -> NDArray[np.float64] | None:
    """Sizes of voxels, signs dropped; None where one is no size."""
    pixdim = np.abs(np.asarray(header.fields["pixdim"][1:4], np.float64))
    return pixdim if _are_sizes(pixdim) else None


def _sizes(affine: Affine) -> NDArray[np.float64]:
    """Lengths of the columns."""
    sizes: NDArray[np.float64] = np.linalg.norm(affine[:3, :3], axis=0)
    return sizes


def _are_sizes(sizes: NDArray[np.float64]) -> bool:
    """Whether the numbers can be sizes of a voxel, in whichever unit."""
    smallest, largest = SIZES
    return bool(((sizes >= smallest) & (sizes <= largest)).all())  # false for what is no number


def _are_unset(sizes: NDArray[np.float64]) -> bool:
    """Whether all sizes are 1, what they are in a header that nobody has filled in."""
    return bool(np.abs(sizes - 1.0).max() <= UNSET_TOLERANCE)


def _told(sizes: NDArray[np.float64]) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)


def _listed(numbers: NDArray[np.float64]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
