"""Why an object or a series cannot become a volume.

Two branches: an ``UnsuitableObjectError`` is about what one object is (a report, a scout, a broken file), every other
leaf about how the planes of a series lie together. Each takes its facts in the order of its message.
"""

from __future__ import annotations

from typing import ClassVar

from inference.errors import SeriesError
from inference.series.uids import shown_uid


class UnsuitableObjectError(SeriesError):
    """One object is not a CT or MR image with planes in patient space; facts: its name, a detail or ''."""

    code: ClassVar[str] = "unsuitable-object"
    what: ClassVar[str] = "not a CT or MR image"
    way_out: ClassVar[str] = "it is left out; send the CT or MR images of the study"

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(name, detail)

    def __str__(self) -> str:
        name, detail = self.args
        return f"{name}: {self.what}{f' ({detail})' if detail else ''}; {self.way_out}"


class NotDicomError(UnsuitableObjectError):
    """The bytes do not begin as a DICOM object does."""

    code = "not-dicom"
    what = "not a DICOM object"
    way_out = "it is left out"


class UnreadableError(UnsuitableObjectError):
    """The bytes begin as DICOM and then break off or contradict themselves."""

    code = "unreadable"
    what = "a damaged DICOM object"
    way_out = "ask the sender to send it again"


class NestedTooDeeplyError(UnreadableError):
    """Sequences inside sequences beyond any sense."""

    code = "nested-too-deeply"
    what = "sequences nested too deeply"


class ObjectTooLargeError(UnsuitableObjectError):
    """The object is larger than any real one."""

    code = "object-too-large"
    what = "larger than this program reads"
    way_out = "send it as single-frame instances"


class DicomdirError(UnsuitableObjectError):
    """A directory of a medium; the instances lie in the folders next to it."""

    code = "dicomdir"
    what = "a DICOMDIR, the directory of a medium"
    way_out = "it is left out; give the folder that it lies in"


class SopClassMissingError(UnsuitableObjectError):
    """Without SOP Class UID nothing says what the object is."""

    code = "sop-class-missing"
    what = "no SOP Class UID, so that nothing says what it is"
    way_out = "ask the sender to correct the object"


class UidMissingError(UnsuitableObjectError):
    """An image that cannot be referred to."""

    code = "uid-missing"
    what = "a UID that identifies the instance is missing"
    way_out = "ask the sender to correct the object"


class SecondaryCaptureError(UnsuitableObjectError):
    """A picture of a screen; its pixels have no place in the patient."""

    code = "secondary-capture"
    what = "a secondary capture"


class LocalizerError(UnsuitableObjectError):
    """A projection or a few slices for planning."""

    code = "localizer"
    what = "a localizer (scout)"


class SegmentationObjectError(UnsuitableObjectError):
    """A segmentation, perhaps our own."""

    code = "segmentation"
    what = "a segmentation"


class StructuredReportError(UnsuitableObjectError):
    """A structured report or key object selection."""

    code = "structured-report"
    what = "a structured report"


class PresentationStateError(UnsuitableObjectError):
    """How images are shown, not an image."""

    code = "presentation-state"
    what = "a presentation state"


class RadiotherapyObjectError(UnsuitableObjectError):
    """Plans, structures, doses."""

    code = "radiotherapy-object"
    what = "a radiotherapy object"


class RawDataError(UnsuitableObjectError):
    """A vendor's raw data."""

    code = "raw-data"
    what = "raw data"


class SpectroscopyError(UnsuitableObjectError):
    """Spectra have no image plane."""

    code = "spectroscopy"
    what = "MR spectroscopy"


class EncapsulatedDocumentError(UnsuitableObjectError):
    """PDF, CDA, STL and the like."""

    code = "encapsulated-document"
    what = "an encapsulated document"


class ParametricMapError(UnsuitableObjectError):
    """Maps of a quantity."""

    code = "parametric-map"
    what = "a parametric map"


class PetError(UnsuitableObjectError):
    """Emission images; the models know CT and MR."""

    code = "pet"
    what = "a PET image"


class OtherImageError(UnsuitableObjectError):
    """An image of another kind, or an object of a class we do not know."""

    code = "not-ct-or-mr"
    what = "an object of another kind than CT or MR image"


class ColourImageError(UnsuitableObjectError):
    """Colours are no measured values."""

    code = "colour-image"
    what = "a colour image"


class DerivedMapError(UnsuitableObjectError):
    """A map shown in colours or without the anatomy."""

    code = "derived-map"
    what = "a derived map, which does not show the anatomy"


class MosaicError(UnsuitableObjectError):
    """A picture of many slices whose places are missing from the header, or contradict themselves or the pixels."""

    code = "mosaic"
    what = "a mosaic whose tiles cannot be placed in the patient"
    way_out = (
        "not processed, because nothing is invented; send it with its private attributes, which an anonymiser may have "
        "removed, without mosaic, or as Enhanced MR"
    )


class NoPixelDataError(UnsuitableObjectError):
    """An image without pixels that can be read."""

    code = "no-pixel-data"
    what = "no Pixel Data (7FE0,0010)"
    way_out = "ask the sender for the whole object, in a standard transfer syntax"


class PixelDataTruncatedError(UnsuitableObjectError):
    """Fewer bytes than Rows, Columns, frames and bits say."""

    code = "pixel-data-truncated"
    what = "Pixel Data is too short"
    way_out = "ask the sender to send it again"


class PixelDataTooLongError(UnsuitableObjectError):
    """A frame more than the header says, which would be lost."""

    code = "pixel-data-too-long"
    what = "Pixel Data hold more frames than the header says"
    way_out = "ask the sender to correct Number of Frames, Rows, Columns or Bits Allocated"


class PixelDataUndecodableError(UnsuitableObjectError):
    """A compressed frame that cannot be decoded, or not to what the header says."""

    code = "pixel-data-undecodable"
    what = "Pixel Data cannot be decoded"
    way_out = "ask the sender to send it again, uncompressed"


class TransferSyntaxUnsupportedError(UnsuitableObjectError):
    """No decoder for this encoding."""

    code = "transfer-syntax-unsupported"
    what = "no decoder for its transfer syntax"
    way_out = "ask the sender for a standard transfer syntax, such as Explicit VR Little Endian"


class PixelFormatError(UnsuitableObjectError):
    """Bits, samples or sizes that a CT or MR image cannot have."""

    code = "pixel-format"
    what = "pixels in a format that CT and MR images do not have"
    way_out = "ask the sender to correct the object"


class RescaleError(UnsuitableObjectError):
    """Stored values that cannot be turned into measured ones."""

    code = "rescale"
    what = "stored values cannot be rescaled"
    way_out = "ask the sender to correct the object"


class GeometryMissingError(UnsuitableObjectError):
    """Nothing says where the plane lies."""

    code = "geometry-missing"
    what = "no usable position in patient space"
    way_out = "not processed, because nothing is invented; ask the sender for the original images"


class StackError(SeriesError):
    """The planes of a series do not lie together as a volume; the first fact is the Series Instance UID."""

    def __init__(self, series_instance_uid: str, *facts: object) -> None:
        super().__init__(shown_uid(series_instance_uid), *facts)


class NoImagesError(StackError):
    """Nothing was given."""

    code = "no-images"

    def __str__(self) -> str:
        return "no CT or MR image was given; expected the instances of one series"


class MixedSeriesError(StackError):
    """Instances of several series were given as one; facts: uid, another uid."""

    code = "mixed-series"

    def __str__(self) -> str:
        uid, other = self.args
        return f"series {uid}: an instance of series {other} lies among it; expected one series, give each alone"


class ConflictingInstanceError(StackError):
    """One SOP Instance UID with two contents; facts: uid, SOP Instance UID."""

    code = "conflicting-instance"

    def __str__(self) -> str:
        uid, instance = self.args
        return (
            f"series {uid}: two objects with different content have SOP Instance UID {instance}; expected one; "
            "not processed, remove the wrong one or ask the sender for new UIDs"
        )


SCATTERED = ", or whether an anonymiser gave each slice a Series Instance UID of its own"


class TooFewSlicesError(StackError):
    """Not enough planes to be a volume; facts: uid, number, minimum."""

    code = "too-few-slices"

    def __str__(self) -> str:
        uid, number, minimum = self.args
        return (
            f"series {uid}: a stack has {number} slice{'s' if number != 1 else ''}, expected at least {minimum}; "
            f"not processed, ask the sender whether the series is complete{SCATTERED if number == 1 else ''}"
        )


class SliceGapError(StackError):
    """So much is missing that the rest is no volume; facts: uid, slice number before the widest gap, step, usual step.

    A gap of more than a quarter of the stack, or more than three of four slices missing.
    """

    code = "slice-gap"

    def __str__(self) -> str:
        uid, number, step_mm, expected_mm = self.args
        return (
            f"series {uid}: step after slice {number} is {step_mm:.2f} mm, expected {expected_mm:.2f} mm, and too much "
            "is missing for what is there to be one volume; not processed, ask the sender to repeat the whole series"
        )


class SpacingNotUniformError(StackError):
    """Distances between slices change beyond any grid; facts: uid, slice number, widest step, smallest step."""

    code = "spacing-not-uniform"

    def __str__(self) -> str:
        uid, number, step_mm, smallest_mm = self.args
        return (
            f"series {uid}: distances between slices change from {smallest_mm:.3f} mm to {step_mm:.3f} mm after slice "
            f"{number}, expected distances that one grid can meet; not processed, ask the sender for a reconstruction "
            "with one spacing"
        )


class TiltError(StackError):
    """A stack tilted further than any gantry; facts: uid, angle and largest angle in degrees."""

    code = "gantry-tilt"

    def __str__(self) -> str:
        uid, angle_deg, max_deg = self.args
        return (
            f"series {uid}: slices lean by {angle_deg:.1f} degrees against their stack, expected at most "
            f"{max_deg:.0f}; not processed, ask the sender for a reconstruction without tilt"
        )


class SlicesNotAlignedError(StackError):
    """Slices shifted within their plane until they hardly meet; facts: uid, slice number, shift in mm."""

    code = "slices-not-aligned"

    def __str__(self) -> str:
        uid, number, shift_mm = self.args
        return (
            f"series {uid}: slice {number} lies {shift_mm:.2f} mm off the line through the others, expected "
            "slices that overlap by half; not processed, ask the sender for a straight stack"
        )


class DuplicatePositionsError(StackError):
    """Several planes at one position, and nothing tells the stacks apart.

    Facts: uid, planes, positions, and SOP Instance UIDs of the first two planes that share a position.
    """

    code = "duplicate-positions"

    def __str__(self) -> str:
        uid, n_planes, n_positions, one, other = self.args
        instances = f"instance {one}" if one == other else f"instances {one} and {other}"
        return (
            f"series {uid}: {n_planes} planes with different values lie at {n_positions} positions and no attribute "
            f"divides them into whole stacks, expected one plane at each position; not processed, the first that share "
            f"one are of {instances}: delete what is wrong or superfluous, or ask the sender for one series a stack"
        )


class ConcatenationIncompleteError(StackError):
    """A multi-frame image that was sent in parts, and some parts are missing; facts: uid, its UID, parts, expected."""

    code = "concatenation-incomplete"

    def __str__(self) -> str:
        uid, concatenation_uid, n_parts, expected = self.args
        return (
            f"series {uid}: {n_parts} parts of concatenation {concatenation_uid} are there, expected {expected}; not "
            "processed, ask the sender to repeat the whole series"
        )


class MultipleTimePointsError(StackError):
    """More stacks than one series should have; facts: uid, number of stacks that would be run, maximum."""

    code = "multiple-time-points"

    def __str__(self) -> str:
        uid, number, maximum = self.args
        return (
            f"series {uid}: {number} volumes of the same place would be run (a time series or many contrasts), "
            f"expected at most {maximum}; not processed, choose fewer with the key stacks of the rules, or send one of "
            "them as a series"
        )


class MixedOrientationError(StackError):
    """Planes in several orientations, not all of them whole stacks; facts: uid, number of orientations."""

    code = "mixed-orientations"

    def __str__(self) -> str:
        uid, number = self.args
        return (
            f"series {uid}: planes in {number} orientations, and not each is a whole stack; expected one; "
            "not processed, send each orientation as a series"
        )


class MixedSizeError(StackError):
    """Planes with several matrix sizes or pixel spacings, not all of them whole stacks; facts: uid, sizes."""

    code = "mixed-sizes"

    def __str__(self) -> str:
        uid, sizes = self.args
        return (
            f"series {uid}: planes of several sizes ({sizes}), and not each is a whole stack; expected one; "
            "not processed, send each size as a series"
        )


class RescaleDiffersError(StackError):
    """Slices whose rescale does not fit that of their neighbours; facts: uid, slice number, its rescale, the next."""

    code = "rescale-differs"

    def __str__(self) -> str:
        uid, number, one, other = self.args
        return (
            f"series {uid}: values jump after slice {number} because Rescale Slope and Intercept change from {one} to "
            f"{other}, expected values that go on from slice to slice; not processed, ask the sender to correct them"
        )


class MixedPhotometricError(StackError):
    """MR slices, some of them stored inverted; facts: uid, number of MONOCHROME1, number of slices."""

    code = "mixed-photometric-interpretations"

    def __str__(self) -> str:
        uid, n_inverted, n_slices = self.args
        return (
            f"series {uid}: {n_inverted} of {n_slices} slices have Photometric Interpretation MONOCHROME1, expected "
            "all or none; not processed, ask the sender for a series of one kind"
        )


class MixedFrameOfReferenceError(StackError):
    """Positions in different patient spaces cannot be compared; facts: uid, number of spaces."""

    code = "mixed-frames-of-reference"

    def __str__(self) -> str:
        uid, number = self.args
        return (
            f"series {uid}: planes of one stack name {number} frames of reference, expected one; "
            "not processed, ask the sender to correct the series"
        )


class SeriesTooLargeError(StackError):
    """More than a machine can hold; facts: uid, what, found, maximum."""

    code = "series-too-large"

    def __str__(self) -> str:
        uid, what, found, maximum = self.args
        return f"series {uid}: {found} {what}, expected at most {maximum}; not processed, send it in parts"


class FieldOfViewError(StackError):
    """A volume of a size that no person has; facts: uid, size, voxel, smallest, largest and largest width in mm."""

    code = "field-of-view"

    def __str__(self) -> str:
        uid, size, voxel, smallest_mm, largest_mm, width_mm = self.args
        return (
            f"series {uid}: the volume is {size} mm with voxels of {voxel} mm, expected {smallest_mm:.0f} to "
            f"{largest_mm:.0f} mm along its largest side and at most {width_mm:.0f} mm along another; not processed, "
            "its unit or scale is wrong or it shows no person: correct the pixel spacing and positions"
        )


class NiftiError(SeriesError):
    """A NIfTI file that is not one scalar volume in space; facts: file name, what is wrong."""

    code = "nifti"

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)

    def __str__(self) -> str:
        name, problem = self.args
        return f"{name}: {problem}"


class NiftiUnreadableError(NiftiError):
    """Damaged, cut short, another format, or a field of the header that cannot be."""

    code = "nifti-unreadable"


class NiftiDimensionsError(NiftiError):
    """Fewer than three axes, an axis without voxels, or several values in each voxel."""

    code = "nifti-dimensions"


class NiftiAffineError(NiftiError):
    """No usable affine, or two that contradict each other."""

    code = "nifti-affine"


class NiftiUnitsError(NiftiError):
    """A unit of length with which the volume has a size that no person has."""

    code = "nifti-units"


class NiftiDataTypeError(NiftiError):
    """Colours, complex numbers, single bits or 128 bit floats."""

    code = "nifti-data-type"


class NiftiTooLargeError(NiftiError):
    """More voxels than fit."""

    code = "nifti-too-large"


class NiftiTooFewSlicesError(TooFewSlicesError):
    """An axis with too few voxels to be a volume; facts: file name, number, minimum."""

    def __init__(self, name: str, *facts: object) -> None:
        SeriesError.__init__(self, name, *facts)  # a file has its name, not a UID

    def __str__(self) -> str:
        name, number, minimum = self.args
        return (
            f"{name}: {number} slice{'s' if number != 1 else ''} along one axis, expected at least {minimum}; "
            "not processed, give the whole volume"
        )
