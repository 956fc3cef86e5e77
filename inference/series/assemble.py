"""Assemble the instances of one series to volumes, or raise the reason why this is impossible."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import highdicom as hd
from pydicom import Dataset

from inference.series.concatenations import check_concatenations
from inference.series.errors import (
    ConflictingInstanceError,
    GeometryMissingError,
    MixedSeriesError,
    MultipleTimePointsError,
    NoImagesError,
    SeriesTooLargeError,
    UnsuitableObjectError,
)
from inference.series.geometry import StackGeometry, stack_geometry
from inference.series.instances import Instance, InstanceSource, read_instance, reading
from inference.series.limits import MAX_ENCODED_BYTES, MAX_HELD_BYTES, MAX_STACKS, MAX_VOXELS
from inference.series.measured import measure_stack
from inference.series.numbers import numbers_at
from inference.series.objects import check_suitable, sop_class_uid_of
from inference.series.odd_planes import MOST_ODD_SHARE
from inference.series.pixels import check_pixel_data
from inference.series.planes import Plane, planes_of
from inference.series.remarks import Remark, RemarkCode
from inference.series.stack_choice import DEFAULT_POLICY, StackPolicy
from inference.series.stack_policy import choose_stacks, repeats_stack
from inference.series.stacks import Stack, stacks_of
from inference.series.tile_pixels import EncodedPlane, encoded_planes
from inference.series.uids import shown_uid
from inference.series.volume import FrameReference, SourceVolume

N_DECODERS = min(8, os.cpu_count() or 1)
MAX_NAMED_STACKS = 5  # in one remark
# Objects of another kind that may show a face too: a scout from the side, a rendering on a screen, a PET.
PICTURES = frozenset({"localizer", "secondary-capture", "colour-image", "derived-map", "pet"})


def assemble_volumes(
    sources: Sequence[InstanceSource], *, stacks: StackPolicy = DEFAULT_POLICY
) -> tuple[SourceVolume, ...]:
    """Read, check and decode one series.

    Nothing is resampled, reordered or dropped silently: every plane is in one volume, at its place and with its values,
    or the whole series is refused; a volume that needed more planes or a wider field than its frames have says so.
    Objects of the series that are no CT or MR images are remarked on; when nothing else is there, the first one's
    reason is raised. The same instance twice, with the same content, counts once.

    Parameters
    ----------
    sources
        The instances of one series, in any order.
    stacks
        Which stacks are wanted, where there are several; the others are remarked on.

    Returns
    -------
    tuple of SourceVolume
        One for each wanted stack, in an order that doesn't depend on the order of ``sources``.

    Raises
    ------
    SeriesError
        A leaf that says what is wrong with the series.
    """
    instances, remarks = _suitable_instances(sources)
    with reading(instances[0].name):  # a hostile UID is a sequence, of which the items are read here
        series_instance_uid = str(instances[0].header.SeriesInstanceUID)
    check_concatenations(instances, series_instance_uid)
    planes = _planes(instances, series_instance_uid)
    remarks = (*remarks, *planes.remarks, *_unplaced_remarks(planes))
    division = stacks_of(planes.placed, series_instance_uid)
    found, chosen = division.stacks, choose_stacks(division.stacks, stacks)
    if len(chosen) > MAX_STACKS:
        raise MultipleTimePointsError(series_instance_uid, len(chosen), MAX_STACKS)
    remarks = (*remarks, *division.remarks, *_stack_remarks(found, chosen, stacks))
    geometries = [stack_geometry(stack.planes, series_instance_uid) for stack in chosen]
    n_voxels = sum(math.prod(geometry.shape) for geometry in geometries)
    if n_voxels > MAX_VOXELS:
        raise SeriesTooLargeError(series_instance_uid, "voxels of all stacks", n_voxels, MAX_VOXELS)
    wanted = {id(plane.instance): plane for stack in chosen for plane in stack.planes}.values()
    frames = {id(plane.instance): encoded_planes(plane) for plane in wanted}
    with ThreadPoolExecutor(N_DECODERS, thread_name_prefix="decode") as pool:
        return tuple(
            _source_volume(geometry, number, stack.name, frames, remarks, pool)
            for number, (stack, geometry) in enumerate(zip(chosen, geometries, strict=True), start=1)
        )


def _stack_remarks(found: Sequence[Stack], chosen: Sequence[Stack], policy: StackPolicy) -> tuple[Remark, ...]:
    """Return a remark that there are several stacks, and which of them are not processed."""
    if len(found) == 1:
        return ()
    remarks = [Remark(RemarkCode.SEVERAL_STACKS, f"the series holds {len(found)} stacks")]
    repeats = [stack for stack in found if stack not in chosen and any(repeats_stack(stack, run) for run in chosen)]
    unseen = [stack for stack in found if stack not in chosen and stack not in repeats]
    if unseen:
        words = f"{len(unseen)} of {len(found)} stacks are not looked at ({' '.join(policy)}): {_named(unseen)}"
        remarks.append(Remark(RemarkCode.STACKS_NOT_RUN, words))
    if repeats:
        words = (
            f"{len(repeats)} of {len(found)} stacks are not looked at, they repeat others "
            f"({' '.join(policy)}): {_named(repeats)}"
        )
        remarks.append(Remark(RemarkCode.REPEATS_NOT_RUN, words))
    return tuple(remarks)


def _named(stacks: Sequence[Stack]) -> str:
    names = "; ".join(stack.name for stack in stacks[:MAX_NAMED_STACKS])
    return f"{names} and {len(stacks) - MAX_NAMED_STACKS} more" if len(stacks) > MAX_NAMED_STACKS else names


@dataclass(frozen=True, slots=True, eq=False)
class _Planes:
    """Planes of a series, instances without a position in the patient, and remarks."""

    placed: list[Plane]
    unplaced: list[tuple[Instance, GeometryMissingError]]
    remarks: tuple[Remark, ...]


def _planes(instances: Sequence[Instance], series_instance_uid: str) -> _Planes:
    """Return all planes of one series after checking that their pixel data have the expected length."""
    planes: list[Plane] = []
    unplaced: list[tuple[Instance, GeometryMissingError]] = []
    n_voxels = 0
    surplus: list[int] = []
    for instance in instances:
        with reading(instance.name):
            uid = str(instance.header.SeriesInstanceUID)
            if uid != series_instance_uid:
                raise MixedSeriesError(series_instance_uid, shown_uid(uid))
            try:
                of_instance = list(planes_of(instance))
            except GeometryMissingError as error:
                unplaced.append((instance, error))
                continue
            pixel_format = of_instance[0].pixel_format
            if of_instance[0].tiles is None:  # of mosaics, hundreds of repetitions, only what is run is ever decoded
                n_voxels += pixel_format.rows * pixel_format.columns * pixel_format.n_frames
            if n_voxels > MAX_VOXELS:
                raise SeriesTooLargeError(series_instance_uid, "voxels", n_voxels, MAX_VOXELS)
            surplus.append(check_pixel_data(instance, pixel_format))
            planes.extend(of_instance)
    if len(unplaced) > max(1, MOST_ODD_SHARE * len(planes)):
        raise unplaced[0][1]
    n_longer = sum(n_bytes > 0 for n_bytes in surplus)
    if not n_longer:
        return _Planes(planes, unplaced, ())
    text = (
        f"Pixel Data of {n_longer} instances are up to {max(surplus)} bytes longer than their frames; that is left out"
    )
    return _Planes(planes, unplaced, (Remark(RemarkCode.PIXEL_DATA_LONGER, text),))


def _unplaced_remarks(planes: _Planes) -> tuple[Remark, ...]:
    """Return remarks on thumbnails without a position, which are left out; refuse such a plane of the stack's size."""
    if not planes.unplaced:
        return ()
    sizes = {(float(plane.pixel_format.rows), float(plane.pixel_format.columns)) for plane in planes.placed}
    for instance, error in planes.unplaced:
        with reading(instance.name):
            size = (*numbers_at(instance.header, "Rows"), *numbers_at(instance.header, "Columns"))
            if not sizes or size in sizes or "PerFrameFunctionalGroupsSequence" in instance.header:
                raise error
    text = f"{len(planes.unplaced)} pictures without a position left out, of other sizes than all slices"
    return (Remark(RemarkCode.PICTURES_LEFT_OUT, f"{text}; a face may be seen there"),)


def _suitable_instances(sources: Sequence[InstanceSource]) -> tuple[list[Instance], tuple[Remark, ...]]:
    """Read all sources and return each image instance once, ordered by SOP Instance UID."""
    kept: dict[str, Instance] = {}
    refusals: list[UnsuitableObjectError] = []
    n_duplicates = n_bytes = n_held_bytes = 0
    for source in sources:
        instance = read_instance(source)
        with reading(source.name):
            try:
                check_suitable(instance.header, instance.name)
            except UnsuitableObjectError as refusal:
                refusals.append(refusal)
                continue
            uid = str(instance.header.SOPInstanceUID)
            if uid in kept:
                _check_same(kept[uid], instance, uid)
                n_duplicates += 1
                continue
            kept[uid] = instance
        if instance.pixel_data is not None:
            n_bytes += len(instance.pixel_data)
            n_held_bytes += len(instance.pixel_data.held or b"")
        for what, found, maximum in (
            ("bytes of pixel data", n_bytes, MAX_ENCODED_BYTES),
            ("bytes of pixel data that are held in memory", n_held_bytes, MAX_HELD_BYTES),
        ):
            if found > maximum:
                raise SeriesTooLargeError(str(instance.header.SeriesInstanceUID), what, found, maximum)
    if not kept:
        raise refusals[0] if refusals else NoImagesError("")
    remarks = []
    for code, number in sorted(Counter(refusal.code for refusal in refusals).items()):
        if code in PICTURES:
            text = f"{number} pictures of the series left out, in which a face may be seen: {code}"
            remarks.append(Remark(RemarkCode.PICTURES_LEFT_OUT, text))
        else:
            remarks.append(Remark(RemarkCode.OBJECTS_LEFT_OUT, f"{number} of the series' objects left out: {code}"))
    if n_duplicates:
        remarks.append(
            Remark(RemarkCode.DUPLICATE_INSTANCES, f"{n_duplicates} instances came twice with the same content")
        )
    return [kept[uid] for uid in sorted(kept)], tuple(remarks)


def _check_same(first: Instance, second: Instance, sop_instance_uid: str) -> None:
    """Raise if two instances with one SOP Instance UID have different content."""
    if (
        first.transfer_syntax_uid != second.transfer_syntax_uid
        or first.pixel_data != second.pixel_data
        or first.header != second.header
    ):
        raise ConflictingInstanceError(str(first.header.SeriesInstanceUID), shown_uid(sop_instance_uid))


def _source_volume(
    stack: StackGeometry,
    stack_number: int,
    stack_name: str,
    frames: dict[int, list[EncodedPlane]],
    series_remarks: tuple[Remark, ...],
    pool: ThreadPoolExecutor,
) -> SourceVolume:
    """Decode the planes of a stack into a volume."""
    first = stack.planes[0]
    uid = str(first.instance.header.SeriesInstanceUID)
    measured = measure_stack(stack, frames, uid, pool)
    volume = hd.Volume(
        measured.voxels,
        stack.affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=first.frame_of_reference_uid,
    )
    return SourceVolume(
        volume=volume,
        plane_sources=tuple(_frame_reference(plane) for plane in stack.planes),
        headers=_headers(stack.planes),
        modality="CT" if first.is_ct else "MR",
        series_instance_uid=uid,
        stack_number=stack_number,
        stack_name=stack_name,
        remarks=(*series_remarks, *stack.remarks, *measured.remarks),
        frames=stack.layout,
        missing=measured.missing,
    )


def _frame_reference(plane: Plane) -> FrameReference:
    header = plane.instance.header
    uids = sop_class_uid_of(header), str(header.SOPInstanceUID)
    return FrameReference(*uids, plane.frame_number, is_tile=plane.tiles is not None)


def _headers(planes: Sequence[Plane]) -> tuple[Dataset, ...]:
    """Return the header of each instance once, in the order of its first plane."""
    return tuple({id(plane.instance): plane.instance.header for plane in planes}.values())
