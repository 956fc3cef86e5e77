"""Instances with known truth, made by real encoding: written as Part 10 bytes and read back from them.

``ct_series`` and ``mr_series`` give a ``SyntheticSeries``: a sequence of encoded instances (each an
``InstanceSource``) and the volume that they were sampled from. The phantom differs along all three axes and is
defined in patient space, so that any swap, flip or shift shows.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, overload

import highdicom as hd
import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)

AIR_HU = -1000.0
ENCODED_BY_PYDICOM = frozenset({RLELossless, JPEG2000Lossless, JPEGLSLossless})

Edit = Callable[[Dataset, int], None]


def uid_of(*parts: object) -> str:
    """Make a UID under 2.25 that depends on ``parts`` only, so that two runs give the same bytes."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


@dataclass(frozen=True)
class EncodedInstance:
    """One instance as Part 10 bytes; an ``InstanceSource``."""

    name: str
    part10: bytes

    def open(self) -> BinaryIO:
        return io.BytesIO(self.part10)

    def dataset(self) -> Dataset:
        """Decode the bytes again; a new dataset each time."""
        return dcmread(self.open(), force=True)

    def edited(self, edit: Callable[[Dataset], None]) -> EncodedInstance:
        """Return the instance with its dataset changed and encoded again."""
        ds = self.dataset()
        edit(ds)
        return encode(ds, name=self.name)


def encode(ds: Dataset, *, name: str | None = None) -> EncodedInstance:
    """Write ``ds`` (with its file meta information) to bytes."""
    buffer = io.BytesIO()
    if "SOPInstanceUID" in ds:
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    if "SOPClassUID" in ds:
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    dcmwrite(buffer, ds, enforce_file_format=True)
    return EncodedInstance(name or f"{ds.get('SOPInstanceUID', 'instance')}.dcm", buffer.getvalue())


@dataclass(frozen=True)
class SyntheticSeries(Sequence[EncodedInstance]):
    """Encoded instances in the order of their slices, and the truth they were sampled from."""

    instances: tuple[EncodedInstance, ...]
    voxels: NDArray[np.float32]  # (slice, row, column), plane n in instance n, after rescaling
    affine: NDArray[np.float64]  # of ``voxels``; exact also under tilt
    series_instance_uid: str
    study_instance_uid: str
    frame_of_reference_uid: str

    @property
    def truth(self) -> hd.Volume:
        """The volume that was encoded; a tilted series has none, because its axes are not orthogonal."""
        return hd.Volume(
            self.voxels,
            self.affine,
            coordinate_system="PATIENT",
            frame_of_reference_uid=self.frame_of_reference_uid,
        )

    @overload
    def __getitem__(self, index: int) -> EncodedInstance: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[EncodedInstance, ...]: ...
    def __getitem__(self, index: int | slice) -> EncodedInstance | tuple[EncodedInstance, ...]:
        return self.instances[index]

    def __len__(self) -> int:
        return len(self.instances)

    def __iter__(self) -> Iterator[EncodedInstance]:
        return iter(self.instances)

    def datasets(self) -> list[Dataset]:
        """Decode every instance."""
        return [instance.dataset() for instance in self.instances]

    def edited(self, edit: Edit) -> SyntheticSeries:
        """Return the series with ``edit(dataset, slice_index)`` applied to every instance."""
        instances = (
            instance.edited(_for_slice(edit, slice_index)) for slice_index, instance in enumerate(self.instances)
        )
        return replace(self, instances=tuple(instances))

    def write_to(self, folder: Path) -> list[Path]:
        """Write the instances as files ``0001.dcm``, ... into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for number, instance in enumerate(self.instances, start=1):
            path = folder / f"{number:04d}.dcm"
            path.write_bytes(instance.part10)
            paths.append(path)
        return paths


def _for_slice(edit: Edit, slice_index: int) -> Callable[[Dataset], None]:
    return lambda ds: edit(ds, slice_index)


def drop_slice(series: SyntheticSeries, *, slice_number: int) -> tuple[EncodedInstance, ...]:
    """Return the instances without the given one, counted from 1."""
    return series[: slice_number - 1] + series[slice_number:]


def series_affine(
    spacing_mm: tuple[float, float, float],
    orientation: ArrayLike = AXIAL,
    origin_mm: ArrayLike = (0.0, 0.0, 0.0),
    tilt_deg: float = 0.0,
) -> NDArray[np.float64]:
    """Affine (slice, row, column) → LPS mm; a tilt leans the slice axis towards the rows, as a gantry does."""
    row_direction, column_direction = np.asarray(orientation, dtype=np.float64).reshape(2, 3)
    normal = np.cross(row_direction, column_direction)
    lean = np.tan(np.deg2rad(tilt_deg))
    affine = np.eye(4)
    affine[:3, 0] = (normal + lean * column_direction) * spacing_mm[0]
    affine[:3, 1] = column_direction * spacing_mm[1]
    affine[:3, 2] = row_direction * spacing_mm[2]
    affine[:3, 3] = origin_mm
    return affine


def phantom_hu(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> NDArray[np.float32]:
    """A head-like ellipsoid with a shell and three different lumps, towards the patient's left, back and head.

    Integers from -1000 to 1400, so that every lossless encoding keeps them; depends on the patient-space position
    relative to the middle of the grid, in units of the grid's half extents.
    """
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).astype(np.float64)
    middle = (np.asarray(shape) - 1) / 2.0
    offset_mm = (index - middle) @ affine[:3, :3].T
    half_mm = np.abs((np.asarray(shape) / 2.0) * affine[:3, :3]).sum(axis=1)
    left, back, head = np.moveaxis(offset_mm / half_mm, -1, 0)
    radius = np.sqrt((left / 0.7) ** 2 + (back / 0.8) ** 2 + (head / 0.85) ** 2)
    voxels = np.full(shape, AIR_HU)
    inside = radius < 1.0
    voxels[inside] = np.rint(40.0 + 60.0 * left + 30.0 * back - 45.0 * head)[inside]
    voxels[inside & (radius > 0.85)] = 900.0
    for centre, size, value in (((0.4, 0, 0), 0.25, 1400.0), ((0, 0.45, 0), 0.2, 600.0), ((0, 0, 0.5), 0.15, -500.0)):
        lump = (left - centre[0]) ** 2 + (back - centre[1]) ** 2 + (head - centre[2]) ** 2 < size**2
        voxels[lump] = value
    return voxels.astype(np.float32)


def ct_series(
    n_slices: int = 12,
    *,
    rows: int = 40,
    columns: int = 36,
    spacing_mm: tuple[float, float, float] = (3.0, 0.8, 0.7),
    orientation: ArrayLike = AXIAL,
    origin_mm: ArrayLike = (-50.0, -60.0, -700.0),
    tilt_deg: float = 0.0,
    voxels_hu: NDArray[np.float32] | None = None,
    rescale_slope: float = 1.0,
    rescale_intercept: float = -1024.0,
    transfer_syntax_uid: str = ExplicitVRLittleEndian,
    seed: str = "ct",
    edit: Edit | None = None,
) -> SyntheticSeries:
    """A CT series; ``voxels_hu`` (slice, row, column) replaces the phantom, ``edit(dataset, slice_index)`` the header.

    ``edit`` runs on the dataset before it is encoded, with uncompressed pixels. Series with another ``seed`` have
    other UIDs.
    """
    affine = series_affine(spacing_mm, orientation, origin_mm, tilt_deg)
    voxels = phantom_hu((n_slices, rows, columns), affine) if voxels_hu is None else voxels_hu
    stored = np.rint((voxels - rescale_intercept) / rescale_slope)

    def ct(ds: Dataset, _: int) -> None:
        ds.RescaleSlope = rescale_slope
        ds.RescaleIntercept = rescale_intercept
        ds.RescaleType = "HU"
        ds.GantryDetectorTilt = tilt_deg
        ds.KVP = 120

    truth = (stored * rescale_slope + rescale_intercept).astype(np.float32)
    return _series(CTImageStorage, "CT", stored, truth, affine, transfer_syntax_uid, seed, (ct, edit))


def mr_series(
    n_slices: int = 12,
    *,
    rows: int = 40,
    columns: int = 36,
    spacing_mm: tuple[float, float, float] = (2.5, 1.1, 0.9),
    orientation: ArrayLike = SAGITTAL,
    origin_mm: ArrayLike = (-40.0, -90.0, 110.0),
    voxels: NDArray[np.float32] | None = None,
    transfer_syntax_uid: str = ExplicitVRLittleEndian,
    seed: str = "mr",
    edit: Edit | None = None,
) -> SyntheticSeries:
    """An MR series without rescale attributes; the phantom is shifted to values from 0 to 2400."""
    affine = series_affine(spacing_mm, orientation, origin_mm)
    stored = phantom_hu((n_slices, rows, columns), affine) - AIR_HU if voxels is None else np.rint(voxels)

    def mr(ds: Dataset, _: int) -> None:
        ds.ScanningSequence = "GR"
        ds.SequenceVariant = "SP"
        ds.ScanOptions = ""
        ds.MRAcquisitionType = "3D"
        ds.EchoTime = 2.5
        ds.EchoTrainLength = 1

    return _series(
        MRImageStorage, "MR", stored, stored.astype(np.float32), affine, transfer_syntax_uid, seed, (mr, edit)
    )


def _series(
    sop_class_uid: str,
    modality: str,
    stored: NDArray[np.floating],
    truth: NDArray[np.float32],
    affine: NDArray[np.float64],
    transfer_syntax_uid: str,
    seed: str,
    edits: Sequence[Edit | None],
) -> SyntheticSeries:
    """Encode the slices of ``stored``."""
    instances = []
    for index, plane in enumerate(stored):
        ds = _common_header(sop_class_uid, modality, seed, index, affine)
        ds.Rows, ds.Columns = plane.shape
        _set_pixels(ds, plane)
        for edit in edits:
            if edit is not None:
                edit(ds, index)
        compress(ds, transfer_syntax_uid)
        instances.append(encode(ds))
    return SyntheticSeries(
        instances=tuple(instances),
        voxels=truth,
        affine=affine,
        series_instance_uid=uid_of(seed, "series"),
        study_instance_uid=uid_of(seed, "study"),
        frame_of_reference_uid=uid_of(seed, "frame of reference"),
    )


def _common_header(sop_class_uid: str, modality: str, seed: str, index: int, affine: NDArray[np.float64]) -> Dataset:
    """Attributes that every image instance has, for slice ``index``."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "M"]
    ds.SOPClassUID = sop_class_uid
    ds.SOPInstanceUID = uid_of(seed, "instance", index)
    ds.StudyInstanceUID = uid_of(seed, "study")
    ds.SeriesInstanceUID = uid_of(seed, "series")
    ds.FrameOfReferenceUID = uid_of(seed, "frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.StudyID = "1"
    ds.SeriesNumber = 3
    ds.AcquisitionNumber = 1
    ds.InstanceNumber = index + 1
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = "20200102"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "101112"
    ds.AccessionNumber = "A1"
    ds.Modality = modality
    ds.Manufacturer = "Synthetic"
    ds.ReferringPhysicianName = ""
    ds.PatientName = "Phantom^Åsa"
    ds.PatientID = "P1"
    ds.PatientBirthDate = "19700101"
    ds.PatientSex = "O"
    ds.PatientPosition = "HFS"
    ds.SeriesDescription = f"{modality} phantom"
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing_mm
    ds.SliceThickness = float(spacing_mm[0])
    ds.PixelSpacing = [float(spacing_mm[1]), float(spacing_mm[2])]
    ds.ImageOrientationPatient = [_decimal(v) for v in (*directions[:, 2], *directions[:, 1])]
    ds.ImagePositionPatient = [_decimal(v) for v in (affine @ [index, 0, 0, 1])[:3]]
    return ds


def _decimal(value: float) -> str:
    """A DS value of at most 16 characters."""
    return next(text for digits in range(14, 0, -1) if len(text := f"{value + 0.0:.{digits}g}") <= 16)


def _set_pixels(ds: Dataset, plane: NDArray[np.floating]) -> None:
    """Store one plane as 16 bits, signed when it needs to be."""
    is_signed = bool(plane.min() < 0)
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = int(is_signed)
    ds.PixelData = plane.astype("<i2" if is_signed else "<u2").tobytes()
    ds["PixelData"].VR = "OW"


def compress(ds: Dataset, transfer_syntax_uid: str) -> None:
    """Encode the pixels in the transfer syntax, or choose how the dataset is written."""
    if transfer_syntax_uid in ENCODED_BY_PYDICOM:
        ds.compress(transfer_syntax_uid, generate_instance_uid=False)
    elif transfer_syntax_uid != ExplicitVRLittleEndian:
        if ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian:
            ds.PixelData = ds.PixelData if _is_little_endian(transfer_syntax_uid) else _swapped(ds.PixelData)
        ds.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)


def _is_little_endian(transfer_syntax_uid: str) -> bool:
    return UID(transfer_syntax_uid).is_little_endian


def _swapped(words: bytes) -> bytes:
    return np.frombuffer(words, "<u2").astype(">u2").tobytes()


def enhanced_mr(
    series: SyntheticSeries,
    *,
    frame_order: Sequence[int] | None = None,
    transfer_syntax_uid: str = ExplicitVRLittleEndian,
    edit: Callable[[Dataset], None] | None = None,
) -> EncodedInstance:
    """One Enhanced MR instance with the planes of ``series`` as frames, in ``frame_order`` (indices of slices).

    Slice n has its own rescale: slope n + 1, intercept -n, n from 0.
    """
    sources = series.datasets()
    order = list(range(len(sources))) if frame_order is None else list(frame_order)
    ds = series[0].dataset()
    ds.SOPClassUID = EnhancedMRImageStorage
    ds.SOPInstanceUID = uid_of(series.series_instance_uid, "enhanced", *order)
    ds.NumberOfFrames = len(order)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "EchoTime"):
        if keyword in ds:
            delattr(ds, keyword)
    ds.SharedFunctionalGroupsSequence = [_shared_groups(sources[0])]
    ds.PerFrameFunctionalGroupsSequence = [_frame_groups(sources[index], index) for index in order]
    ds.PixelData = b"".join(sources[index].PixelData for index in order)
    if edit is not None:
        edit(ds)
    compress(ds, transfer_syntax_uid)
    return encode(ds)


def _shared_groups(source: Dataset) -> Dataset:
    orientation, measures, groups = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = source.ImageOrientationPatient
    measures.PixelSpacing = source.PixelSpacing
    measures.SliceThickness = source.SliceThickness
    groups.PlaneOrientationSequence = [orientation]
    groups.PixelMeasuresSequence = [measures]
    return groups


def _frame_groups(source: Dataset, index: int) -> Dataset:
    position, content, transformation, groups = Dataset(), Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = source.ImagePositionPatient
    content.DimensionIndexValues = [1, index + 1]
    content.StackID = "1"
    content.InStackPositionNumber = index + 1
    transformation.RescaleSlope = 1 + index
    transformation.RescaleIntercept = -index
    transformation.RescaleType = "US"
    groups.PlanePositionSequence = [position]
    groups.FrameContentSequence = [content]
    groups.PixelValueTransformationSequence = [transformation]
    return groups
