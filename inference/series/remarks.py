"""What is noticed on the way and does not stop a series; without imports, because every process may read the codes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RemarkCode(StrEnum):
    """Stable names of all remarks; some of them decide whether a study may be cleared (`dicom_node.gate.judging`)."""

    AFFINE_STRAIGHTENED = "affine-straightened"
    ANONYMIZED_AREA_WITHOUT_FACE = "anonymized-area-without-face"
    ANONYMIZED_AREA_WITHOUT_NUMBERS = "anonymized-area-without-numbers"
    BITS_STORED_TOO_FEW = "bits-stored-too-few"
    CHANGING_SLICE_DISTANCES = "changing-slice-distances"
    COMPLETENESS_DOUBTED = "completeness-doubted"
    COSINES_ROUNDED = "cosines-rounded"
    DUPLICATE_INSTANCES = "duplicate-instances"
    FRAME_OF_REFERENCE_MISSING = "frame-of-reference-missing"
    IDENTITY_NOT_VALID = "identity-not-valid"
    INTERCEPT_NOT_USED = "intercept-not-used"
    INVERTED = "inverted"
    MISSING_SLICES = "missing-slices"
    MONOCHROME1_CONTRADICTED = "monochrome1-contradicted"
    NO_SIGNAL = "no-signal"
    NOT_HOUNSFIELD_UNITS = "not-hounsfield-units"
    OBJECTS_LEFT_OUT = "objects-left-out"
    ORIENTATION_UNKNOWN = "orientation-unknown"
    PADDING_IS_AIR = "padding-is-air"
    PICTURES_LEFT_OUT = "pictures-left-out"
    PIXDIM_NEGATIVE = "pixdim-negative"
    PIXDIM_NOT_USED = "pixdim-not-used"
    PIXEL_DATA_LONGER = "pixel-data-longer"
    PLANES_LEFT_OUT = "planes-left-out"
    PLANES_NOT_RUN = "planes-not-run"
    PLANES_WITHIN_NOT_RUN = "planes-within-not-run"
    QFORM_NOT_USED = "qform-not-used"
    REPEATED_SLICES = "repeated-slices"
    REPEATS_NOT_RUN = "repeats-not-run"
    RESCALE_CHANGES = "rescale-changes"
    RESCALE_COMPLETED = "rescale-completed"
    RESCALE_INCOMPLETE = "rescale-incomplete"
    RESCALE_MISSING = "rescale-missing"
    SCALE_DOUBTFUL = "scale-doubtful"
    SEVERAL_STACKS = "several-stacks"
    SFORM_NOT_USED = "sform-not-used"
    SFORM_QFORM_DIFFER = "sform-qform-differ"
    SFORM_SCALED = "sform-scaled"
    SHIFTED_SLICES = "shifted-slices"
    SLICE_THICKNESS_CONTRADICTS = "slice-thickness-contradicts"
    SPACING_BETWEEN_SLICES_CONTRADICTS = "spacing-between-slices-contradicts"
    STACKS_NOT_RUN = "stacks-not-run"
    TILTED = "tilted"
    UNEVEN_SLICE_POSITIONS = "uneven-slice-positions"
    UNUSED_BITS_SET = "unused-bits-set"
    VOLUMES_NOT_RUN = "volumes-not-run"
    VOX_OFFSET_CORRECTED = "vox-offset-corrected"
    VOXELS_LEFT_OVER = "voxels-left-over"
    VOXELS_NOT_FINITE = "voxels-not-finite"


@dataclass(frozen=True, slots=True)
class Remark:
    """Something noticed on the way that did not stop the series."""

    code: RemarkCode
    text: str
