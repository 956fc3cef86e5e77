"""The planes of an instance: where each lies in patient space and how its stored values become measured ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from inference.series.errors import GeometryMissingError, MosaicError, PixelFormatError, RescaleError
from inference.series.header_values import Places, first_number, first_value, private_items, private_value
from inference.series.instances import Instance, reading
from inference.series.limits import MAX_COORDINATE_MM, MAX_PLANE_PIXELS, MAX_VOXELS, PIXEL_SPACINGS_MM
from inference.series.objects import (
    CT_CLASSES,
    MOSAIC,
    MULTI_FRAME_CLASSES,
    VFRAME,
    image_type_of,
    sop_class_uid_of,
)
from inference.series.siemens_mosaic import csa_header_of, siemens_tile_grid, siemens_tile_positions
from inference.series.tile_grid import TileGrid
from inference.series.united_imaging import united_imaging_tiles
from inference.series.volume import Remark

DIRECTION_TOLERANCE = 1e-3  # of length 1 and of a right angle: coarser rounding than any modality writes


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How the frames of an instance are stored (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    n_frames: int
    bits_allocated: int
    bits_stored: int
    is_signed: bool


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
    spacing_mm: tuple[float, float]  # between rows, between columns
    rescale_slope: float
    rescale_intercept: float
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


def planes_of(instance: Instance) -> Iterator[Plane]:
    """Describe every frame of a CT or MR image, or every tile of a mosaic.

    Raises
    ------
    UnsuitableObjectError
        A leaf that says what is missing or contradicts itself.
    """
    ds = instance.header
    is_multi_frame = sop_class_uid_of(ds) in MULTI_FRAME_CLASSES
    pixel_format = _pixel_format(ds, instance.name)
    if not is_multi_frame:
        if pixel_format.n_frames != 1:
            raise PixelFormatError(instance.name, f"{pixel_format.n_frames} frames in a single-frame class")
        image_type = image_type_of(ds)
        if VFRAME in image_type:
            yield from _united_imaging_tiles(instance, pixel_format)
        elif MOSAIC in image_type:
            yield from _siemens_tiles(instance, pixel_format)
        else:
            yield _plane(instance, pixel_format, 0, None, (ds,))
        return
    shared, per_frame = _functional_groups(ds, pixel_format, instance.name)
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
    for index, item in enumerate(items):
        yield replace(_plane(instance, pixel_format, index, None, (item, ds)), tiles=grid)


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


def value_remarks(plane: Plane) -> tuple[Remark, ...]:
    """What is odd about the values of a CT plane: models expect Hounsfield units."""
    if sop_class_uid_of(plane.instance.header) not in CT_CLASSES:
        return ()
    with reading(plane.instance.name):
        if first_value(plane.places, "RescaleIntercept") is None:
            return (Remark("rescale-missing", "CT without Rescale Intercept; stored values are taken as they are"),)
        rescale_type = str(first_value(plane.places, "RescaleType") or "HU").strip().upper()
    if rescale_type != "HU":
        return (Remark("not-hounsfield-units", f"CT values are of Rescale Type {rescale_type}, not HU"),)
    return ()


def _functional_groups(ds: Dataset, pixel_format: PixelFormat, name: str) -> tuple[Dataset, list[Dataset]]:
    """Shared and per-frame functional groups, flattened to the attributes of their macros (PS3.3 C.7.6.16)."""
    per_frame = ds.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        raise GeometryMissingError(name, "no Per-frame Functional Groups Sequence")
    if len(per_frame) != pixel_format.n_frames:
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
    position = _numbers(places, "ImagePositionPatient", 3, name)
    if max(map(abs, position)) > MAX_COORDINATE_MM:
        raise GeometryMissingError(name, f"ImagePositionPatient {position}, expected at most {MAX_COORDINATE_MM:g} mm")
    row_direction, column_direction = _directions(_numbers(places, "ImageOrientationPatient", 6, name), name)
    spacing = _numbers(places, "PixelSpacing", 2, name)
    smallest, largest = PIXEL_SPACINGS_MM
    if not all(smallest <= value <= largest for value in spacing):
        raise GeometryMissingError(
            name, f"Pixel Spacing {spacing}, expected two values of {smallest:g} to {largest:g} mm"
        )
    slope, intercept = _rescale(places, name)
    between = first_number(places, "SpacingBetweenSlices")
    return Plane(
        instance=instance,
        pixel_format=pixel_format,
        frame_index=frame_index,
        frame_number=frame_number,
        position_mm=np.array(position),
        row_direction=row_direction,
        column_direction=column_direction,
        spacing_mm=(spacing[0], spacing[1]),
        rescale_slope=slope,
        rescale_intercept=intercept,
        spacing_between_slices_mm=abs(between) if between else None,
        slice_thickness_mm=first_number(places, "SliceThickness"),
        frame_of_reference_uid=str(instance.header.get("FrameOfReferenceUID") or "") or None,
        places=places if frame_number is None else (*places, instance.header),
    )


def _numbers(places: Places, keyword: str, n_values: int, name: str) -> tuple[float, ...]:
    """Exactly ``n_values`` finite numbers."""
    try:
        value = first_value(places, keyword)
        numbers = tuple(float(v) for v in value) if value is not None else ()
    except (ValueError, TypeError, OverflowError) as error:
        raise GeometryMissingError(name, f"{keyword} is not a list of numbers") from error
    if len(numbers) != n_values or not all(math.isfinite(v) for v in numbers):
        raise GeometryMissingError(name, f"{keyword} has {len(numbers)} usable values, expected {n_values}")
    return numbers


def _directions(cosines: tuple[float, ...], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Row and column direction, freed from rounding: length 1 and at a right angle."""
    row, column = np.array(cosines).reshape(2, 3)
    if (
        abs(np.linalg.norm(row) - 1) > DIRECTION_TOLERANCE
        or abs(np.linalg.norm(column) - 1) > DIRECTION_TOLERANCE
        or abs(row @ column) > DIRECTION_TOLERANCE
    ):
        raise GeometryMissingError(name, f"ImageOrientationPatient {cosines}, expected two unit vectors at 90 degrees")
    row = row / np.linalg.norm(row)
    column = column - (row @ column) * row
    return row, column / np.linalg.norm(column)


def _rescale(places: Places, name: str) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where there are none (PS3.3 C.11.1)."""
    if first_value(places, "ModalityLUTSequence"):
        raise RescaleError(name, "a Modality LUT Sequence in place of slope and intercept")
    values = []
    for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        value = default if first_value(places, keyword) is None else first_number(places, keyword)
        if value is None:
            raise RescaleError(name, f"{keyword} is not a finite number")
        values.append(value)
    if values[0] == 0:
        raise RescaleError(name, "RescaleSlope is 0")
    return values[0], values[1]


def _pixel_format(ds: Dataset, name: str) -> PixelFormat:
    """Check sizes and bits before anything is allocated."""
    values = {}
    for keyword in ("Rows", "Columns", "BitsAllocated"):
        values[keyword] = _whole_number(ds, keyword, None, name)
    bits_allocated = values["BitsAllocated"]
    bits_stored = _whole_number(ds, "BitsStored", bits_allocated, name)
    n_frames = _whole_number(ds, "NumberOfFrames", 1, name)
    n_pixels = values["Rows"] * values["Columns"]
    if not 0 < n_pixels <= MAX_PLANE_PIXELS or n_pixels * n_frames > MAX_VOXELS or n_frames < 1:
        raise PixelFormatError(name, f"{values['Rows']} x {values['Columns']} pixels, {n_frames} frames")
    if bits_allocated not in (8, 16, 32) or not 0 < bits_stored <= bits_allocated:
        raise PixelFormatError(name, f"{bits_stored} bits stored in {bits_allocated}")
    high_bit = _whole_number(ds, "HighBit", bits_stored - 1, name)
    if high_bit != bits_stored - 1:
        raise PixelFormatError(name, f"High Bit {high_bit}, expected {bits_stored - 1}")
    is_signed = _whole_number(ds, "PixelRepresentation", 0, name) == 1
    return PixelFormat(values["Rows"], values["Columns"], n_frames, bits_allocated, bits_stored, is_signed)


def _whole_number(ds: Dataset, keyword: str, default: int | None, name: str) -> int:
    """A whole number; ``default`` where the attribute is absent or empty."""
    try:
        value = first_value((ds,), keyword)
        if value is None and default is not None:
            return default
        return int(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise PixelFormatError(name, f"{keyword} is not a whole number") from error
