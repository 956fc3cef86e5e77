"""The demo's three series as DICOM instances, as a scanner would store them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from dicom_node.demo.body import render_body
from dicom_node.demo.head import cut_face, render_head

UID_SEED = "https://pypi.org/project/dicom-node/demo"
RESCALE_INTERCEPT_HU = -1024
STUDY_DATE = "20260101"


@dataclass(frozen=True, slots=True, eq=False)
class DemoSeries:
    """A series to send: what it shows and its voxels, slices along the first axis."""

    name: str
    title: str
    modality: str
    volume: hd.Volume

    @property
    def series_instance_uid(self) -> str:
        """UID that is the same in every run."""
        return _uid(self.name, "series")

    @property
    def study_instance_uid(self) -> str:
        """UID that is the same in every run."""
        return _uid(self.name, "study")


def render_demo_series() -> Iterator[DemoSeries]:
    """Yield a head with its face, one with the face cut away, and a body; each in another slice orientation."""
    yield DemoSeries("head", "MR head, face intact", "MR", render_head(seed=1).to_patient_orientation("LFP"))
    defaced = cut_face(render_head(seed=2, size=1.05, is_mirrored=True))
    yield DemoSeries("defaced", "MR head, face cut away", "MR", defaced.to_patient_orientation("PFL"))
    yield DemoSeries("body", "CT chest and abdomen", "CT", render_body(seed=3))


def write_series(series: DemoSeries, folder: Path) -> list[Path]:
    """Write one file per slice to ``folder``, with the same bytes in every run."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for slice_index in range(series.volume.spatial_shape[0]):
        path = folder / f"{slice_index + 1:04d}.dcm"
        slice_instance(series, slice_index).save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def slice_instance(series: DemoSeries, slice_index: int) -> Dataset:
    """Return one slice as a CT or MR Image Storage instance."""
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage if series.modality == "CT" else MRImageStorage
    ds.SOPInstanceUID = _uid(series.name, f"instance {slice_index + 1}")
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    _add_identity(ds, series, slice_index)
    _add_geometry(ds, series.volume, slice_index)
    _add_acquisition(ds, series)
    _add_pixels(ds, series, slice_index)
    return ds


def _add_identity(ds: Dataset, series: DemoSeries, slice_index: int) -> None:
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if series.modality == "CT" else "OTHER"]
    ds.PatientName = f"Demo^{series.name.capitalize()}"
    ds.PatientID = f"DEMO-{series.name.upper()}"
    ds.PatientBirthDate = ""
    ds.PatientSex = "O"
    ds.StudyInstanceUID = series.study_instance_uid
    ds.SeriesInstanceUID = series.series_instance_uid
    ds.FrameOfReferenceUID = _uid(series.name, "frame of reference")
    ds.StudyID = "1"
    ds.SeriesNumber = 1
    ds.InstanceNumber = slice_index + 1
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = STUDY_DATE
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "120000"
    ds.AccessionNumber = ""
    ds.ReferringPhysicianName = ""
    ds.Modality = series.modality
    ds.Manufacturer = "dicom-node demo"
    ds.StudyDescription = "Synthetic demonstration"
    ds.SeriesDescription = series.title
    ds.PositionReferenceIndicator = ""


def _add_geometry(ds: Dataset, volume: hd.Volume, slice_index: int) -> None:
    affine = volume.affine
    slice_mm, row_mm, column_mm = np.linalg.norm(affine[:3, :3], axis=0)
    ds.ImagePositionPatient = _decimals(affine[:3, 3] + slice_index * affine[:3, 0])
    ds.ImageOrientationPatient = _decimals(np.concatenate([affine[:3, 2] / column_mm, affine[:3, 1] / row_mm]))
    ds.PixelSpacing = _decimals([row_mm, column_mm])
    ds.SliceThickness = _decimals([slice_mm])[0]
    ds.PatientPosition = "HFS"


def _add_acquisition(ds: Dataset, series: DemoSeries) -> None:
    ds.BodyPartExamined = "CHEST" if series.modality == "CT" else "HEAD"
    if series.modality == "CT":
        ds.KVP = "120"
        ds.AcquisitionNumber = 1
        ds.RescaleIntercept = str(RESCALE_INTERCEPT_HU)
        ds.RescaleSlope = "1"
        ds.RescaleType = "HU"
        return
    ds.ScanningSequence = "GR"
    ds.SequenceVariant = "SP"
    ds.ScanOptions = ""
    ds.MRAcquisitionType = "3D"
    ds.RepetitionTime = "2000"
    ds.EchoTime = "3"
    ds.FlipAngle = "9"
    ds.EchoTrainLength = 1


def _add_pixels(ds: Dataset, series: DemoSeries, slice_index: int) -> None:
    intercept = RESCALE_INTERCEPT_HU if series.modality == "CT" else 0
    stored = np.clip(series.volume.array[slice_index] - intercept, 0, 4095).astype("<u2")
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = 16
    ds.BitsStored = 12
    ds.HighBit = 11
    ds.PixelRepresentation = 0
    ds.PixelData = stored.tobytes()


def _decimals(values: np.typing.ArrayLike) -> list[str]:
    """Return decimal strings of at most 16 characters (PS3.5 table 6.2-1), with ``-0`` as ``0``."""
    return [f"{value + 0.0:.8g}" for value in np.round(np.asarray(values, dtype=np.float64), 9)]


def _uid(name: str, what: str) -> str:
    return f"2.25.{uuid5(NAMESPACE_URL, f'{UID_SEED}/{name}/{what}').int}"
