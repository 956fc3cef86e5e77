"""The planes of an instance: where each lies in patient space and how its stored values become measured ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from inference.series.errors import GeometryMissingError, MosaicError, PixelFormatError, RescaleError
from inference.series.header_values import (
    Places,
    first_number,
    first_numbers,
    first_value,
    private_items,
    private_value,
)
from inference.series.instances import Instance
from inference.series.limits import MAX_COORDINATE_MM, PIXEL_SPACINGS_MM
from inference.series.objects import (
    CT_CLASSES,
    MOSAIC,
    MULTI_FRAME_CLASSES,
    VFRAME,
    image_type_of,
    photometric_interpretation_of,
    sop_class_uid_of,
)
from inference.series.pixel_format import PixelFormat, bounded, read_pixel_format
from inference.series.siemens_mosaic import csa_header_of, siemens_tile_grid, siemens_tile_positions
from inference.series.tile_grid import TileGrid
from inference.series.united_imaging import united_imaging_tiles

DIRECTION_TOLERANCE = 1e-3  # of length 1 and of a right angle: coarser rounding than any modality writes
ROUNDED_TOLERANCE = 0.02  # the same for cosines of two decimals, which some anonymisers and converters leave
RIGHT_ANGLE_DEG = math.degrees(ROUNDED_TOLERANCE)


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """One frame in patient space; vectors are LPS."""

    instance: Instance
    pixel_format: PixelFormat
    frame_index: int  # among the frames of the instance, or the tiles of a mosaic
    frame_number: int | None  # None for single-frame instances
    position_mm: NDArray[np.float64]
    row_direction: NDArray[np.float64]  # along which the column index grows
    column_direction: NDArray[np.float64]
    are_cosines_rounded: bool  # no unit vectors at a right angle as received, but nearly
    spacing_mm: tuple[float, float]  # between rows, between columns
    rescale_slope: float
    rescale_intercept: float
    is_rescale_given: bool  # else slope 1 and intercept 0 are assumed
    spacing_between_slices_mm: float | None
    slice_thickness_mm: float | None
    frame_of_reference_uid: str | None
    places: Places  # where the frame's attributes stand, the nearer first
    tiles: TileGrid | None = None  # of a mosaic: the plane is one tile of its frame

    @property
    def rows(self) -> int:
        """Rows of the plane, which are the frame's unless it is a mosaic."""
        return self.pixel_format.rows if self.tiles is None else self.tiles.rows

    @property
    def columns(self) -> int:
        """Columns of the plane."""
        return self.pixel_format.columns if self.tiles is None else self.tiles.columns

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the plane."""
        return np.cross(self.row_direction, self.column_direction)

    @property
    def is_ct(self) -> bool:
        """Whether the values are meant to be Hounsfield units."""
        return sop_class_uid_of(self.instance.header) in CT_CLASSES

    @property
    def is_inverted(self) -> bool:
        """Whether large values are meant to be shown dark (PS3.3 C.7.6.3.1.2)."""
        return photometric_interpretation_of(self.instance.header) == "MONOCHROME1"

    @property
    def rescale_type(self) -> str:
        """Unit of the rescaled values of a CT; HU where nothing is said (PS3.3 C.11.1.1.2)."""
        return str(first_value(self.places, "RescaleType") or "HU").strip().upper()


def planes_of(instance: Instance) -> Iterator[Plane]:
    """Describe every frame of a CT or MR image, or every tile of a mosaic.

    Raises
    ------
    UnsuitableObjectError
        A leaf that says what is missing or contradicts itself.
    """
    ds = instance.header
    is_multi_frame = sop_class_uid_of(ds) in MULTI_FRAME_CLASSES
    pixel_format = read_pixel_format(instance)
    if not is_multi_frame:
        if pixel_format.n_frames not in (0, 1):
            raise PixelFormatError(instance.name, f"{pixel_format.n_frames} frames in a single-frame class")
        pixel_format = replace(pixel_format, n_frames=1)
        image_type = image_type_of(ds)
        if VFRAME in image_type:
            yield from _united_imaging_tiles(instance, pixel_format)
        elif MOSAIC in image_type:
            yield from _siemens_tiles(instance, pixel_format)
        else:
            yield _plane(instance, pixel_format, 0, None, (ds,))
        return
    shared, per_frame = _functional_groups(ds, pixel_format, instance.name)
    pixel_format = bounded(replace(pixel_format, n_frames=len(per_frame)), instance.name)
    if pixel_format.n_frames == 1:
        _check_frame_is_no_mosaic(ds, instance.name)
    for frame_index, groups in enumerate(per_frame):
        yield _plane(instance, pixel_format, frame_index, frame_index + 1, (groups, shared))


def _siemens_tiles(instance: Instance, pixel_format: PixelFormat) -> Iterator[Plane]:
    """The tiles of a Siemens mosaic, or the one plane of what only says that it is one."""
    whole = _plane(instance, pixel_format, 0, None, (instance.header,))
    csa = csa_header_of(instance.header, instance.name)
    grid = siemens_tile_grid(instance.header, csa, (pixel_format.rows, pixel_format.columns), instance.name)
    if grid is None:
        yield whole
        return
    directions, step_mm = (whole.row_direction, whole.column_direction), whole.spacing_between_slices_mm
    positions_mm = siemens_tile_positions(
        csa, grid, whole.position_mm, directions, whole.spacing_mm, step_mm, instance.name
    )
    for index, position_mm in enumerate(positions_mm):
        yield replace(whole, frame_index=index, position_mm=position_mm, tiles=grid)


def _united_imaging_tiles(instance: Instance, pixel_format: PixelFormat) -> Iterator[Plane]:
    """The tiles of a United Imaging mosaic, each with its own position."""
    ds, size = instance.header, (pixel_format.rows, pixel_format.columns)
    grid, items = united_imaging_tiles(ds, size, instance.name)
    first = replace(_plane(instance, pixel_format, 0, None, (items[0], ds)), tiles=grid)
    for index, item in enumerate(items):
        position_mm = _position((item,), instance.name)
        yield replace(first, frame_index=index, position_mm=position_mm, places=(item, ds))


def _check_frame_is_no_mosaic(ds: Dataset, name: str) -> None:
    """Refuse a multi-frame image whose only frame is a mosaic, as navigators of Numaris X are.

    Where there are several frames they are the slices, whatever Image Type still says.
    """
    words = set(image_type_of(ds))
    for item in private_items((ds.PerFrameFunctionalGroupsSequence[0],), 0x0021, "SIEMENS MR SDI 02", 0xFE):
        text = private_value((item,), 0x0021, "SIEMENS MR SDI 02", 0x75)
        words.update([text] if isinstance(text, str) else text or ())
    if MOSAIC in words:
        raise MosaicError(name, "the only frame of a multi-frame image, which has no CSA header")


def _functional_groups(ds: Dataset, pixel_format: PixelFormat, name: str) -> tuple[Dataset, list[Dataset]]:
    """Shared and per-frame functional groups, flattened to the attributes of their macros (PS3.3 C.7.6.16)."""
    per_frame = ds.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        raise GeometryMissingError(name, "no Per-frame Functional Groups Sequence")
    if pixel_format.n_frames and len(per_frame) != pixel_format.n_frames:
        raise GeometryMissingError(name, f"{len(per_frame)} functional groups for {pixel_format.n_frames} frames")
    shared = ds.get("SharedFunctionalGroupsSequence")
    return _flattened(shared[0]) if shared else Dataset(), [_flattened(item) for item in per_frame]


def _flattened(groups: Dataset) -> Dataset:
    """Join the items of the public macros; they share no attribute that is used here."""
    flat = Dataset()
    for element in groups:
        if element.VR == "SQ" and not element.tag.is_private and element.value:
            flat.update(element.value[0])
    return flat


def _plane(
    instance: Instance,
    pixel_format: PixelFormat,
    frame_index: int,
    frame_number: int | None,
    places: Places,
) -> Plane:
    """Read one frame's attributes from ``places``, the nearer first."""
    name = instance.name
    row_direction, column_direction, are_rounded = _directions(
        _numbers(places, "ImageOrientationPatient", 6, name), name
    )
    spacing = _numbers(places, "PixelSpacing", 2, name)
    smallest, largest = PIXEL_SPACINGS_MM
    if not all(smallest <= value <= largest for value in spacing):
        raise GeometryMissingError(
            name, f"Pixel Spacing {spacing}, expected two values of {smallest:g} to {largest:g} mm"
        )
    slope, intercept, is_rescale_given = _rescale(places, name)
    between = first_number(places, "SpacingBetweenSlices")
    return Plane(
        instance=instance,
        pixel_format=pixel_format,
        frame_index=frame_index,
        frame_number=frame_number,
        position_mm=_position(places, name),
        row_direction=row_direction,
        column_direction=column_direction,
        are_cosines_rounded=are_rounded,
        spacing_mm=(spacing[0], spacing[1]),
        rescale_slope=slope,
        rescale_intercept=intercept,
        is_rescale_given=is_rescale_given,
        spacing_between_slices_mm=abs(between) if between else None,
        slice_thickness_mm=first_number(places, "SliceThickness"),
        frame_of_reference_uid=str(instance.header.get("FrameOfReferenceUID") or "") or None,
        places=places if frame_number is None else (*places, instance.header),
    )


def _position(places: Places, name: str) -> NDArray[np.float64]:
    """Position of the first pixel, not absurdly far away."""
    position = _numbers(places, "ImagePositionPatient", 3, name)
    if max(map(abs, position)) > MAX_COORDINATE_MM:
        raise GeometryMissingError(name, f"ImagePositionPatient {position}, expected at most {MAX_COORDINATE_MM:g} mm")
    return np.array(position)


def _numbers(places: Places, keyword: str, n_values: int, name: str) -> tuple[float, ...]:
    """Exactly ``n_values`` finite numbers."""
    try:
        numbers = first_numbers(places, keyword)
    except ValueError as error:
        raise GeometryMissingError(name, f"{keyword} is not a list of numbers") from error
    if len(numbers) != n_values or not all(math.isfinite(v) for v in numbers):
        raise GeometryMissingError(name, f"{keyword} has {len(numbers)} usable values, expected {n_values}")
    return numbers


def _directions(cosines: tuple[float, ...], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Row and column direction, freed from rounding, and whether it was coarse: length 1 and at a right angle."""
    row, column = np.array(cosines).reshape(2, 3)
    lengths = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    error = max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(float(row @ column)))
    if not error <= ROUNDED_TOLERANCE:
        angle_deg = _angle_deg(float(row @ column), math.prod(lengths))
        found = f"vectors of length {lengths[0]:.3g} and {lengths[1]:.3g} at {angle_deg:.1f} degrees"
        expected = f"length 1 to within {ROUNDED_TOLERANCE:g} and 90 degrees to within {RIGHT_ANGLE_DEG:.1f}"
        raise GeometryMissingError(name, f"ImageOrientationPatient {cosines}, {found}, expected {expected}")
    if error > DIRECTION_TOLERANCE:  # the nearest right-angled pair, which favours neither
        left, _, right = np.linalg.svd(np.column_stack((row, column)), full_matrices=False)
        row, column = (left @ right).T
        return row, column, True
    row = row / np.linalg.norm(row)
    column = column - (row @ column) * row
    return row, column / np.linalg.norm(column), False


def _angle_deg(product: float, lengths: float) -> float:
    return math.degrees(math.acos(max(-1.0, min(1.0, product / lengths)))) if lengths else 0.0


def _rescale(places: Places, name: str) -> tuple[float, float, bool]:
    """Slope and intercept, 1 and 0 where there are none, and whether both were given (PS3.3 C.11.1)."""
    if first_value(places, "ModalityLUTSequence"):
        raise RescaleError(name, "a Modality LUT Sequence in place of slope and intercept")
    values = []
    is_given = True
    for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        try:
            numbers = first_numbers(places, keyword)
        except ValueError as error:
            raise RescaleError(name, f"{keyword} is not a finite number") from error
        is_given = is_given and bool(numbers)
        value = numbers[0] if numbers else default
        if len(numbers) > 1 or not math.isfinite(value):
            raise RescaleError(name, f"{keyword} is not a finite number")
        values.append(value)
    if values[0] == 0:
        raise RescaleError(name, "RescaleSlope is 0")
    return values[0], values[1], is_given
