"""Write a thin-slice body CT as a scanner stores it, in several transfer syntaxes, for benchmarks of reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from scipy import ndimage

from dicom_node.demo.body import N_SLICES, render_body

ROWS = COLUMNS = 512
SPACING_MM = (1.0, 0.8, 0.8)
INTERCEPT_HU = -1024
NOISE_HU = 12.0  # standard deviation, as in a standard abdominal reconstruction
N_PRIVATE, PRIVATE_BYTES = 40, 64  # scanners write hundreds of private attributes

Stored = NDArray[np.uint16]

ENCODERS: Mapping[str, Callable[[Stored], bytes]] = {
    JPEGLSLossless: lambda plane: bytes(imagecodecs.jpegls_encode(plane)),
    JPEG2000Lossless: lambda plane: bytes(imagecodecs.jpeg2k_encode(plane, codecformat="j2k", reversible=True)),
    JPEGLosslessSV1: lambda plane: bytes(imagecodecs.ljpeg_encode(plane, bitspersample=12)),
}


def stored_planes(n_slices: int) -> NDArray[np.uint16]:
    """Return stored values (slice, row, column) of 12 bits: the demo's body, scaled up, with noise on every slice."""
    body = render_body(seed=3).array
    rng = np.random.default_rng(3)
    in_plane = (1.0, ROWS / body.shape[1], COLUMNS / body.shape[2])
    planes = np.empty((n_slices, ROWS, COLUMNS), np.uint16)
    for index in range(n_slices):
        source = body[index * N_SLICES // n_slices][None]
        smooth = ndimage.zoom(source, in_plane, order=1, grid_mode=True, mode="nearest")[0]
        noise = ndimage.gaussian_filter(rng.standard_normal((ROWS, COLUMNS), np.float32), 0.6)
        planes[index] = np.clip(np.rint(smooth + NOISE_HU * noise / noise.std()) - INTERCEPT_HU, 0, 4095)
    return planes


def write_series(
    folder: Path, planes: Stored, transfer_syntax_uid: str = ExplicitVRLittleEndian, *, root: str = "2.25.7"
) -> None:
    """Write one file per plane; the UIDs of its instances, and of series and study, begin with ``root``."""
    folder.mkdir(parents=True)

    def write(index: int) -> None:
        ds = _header(index, transfer_syntax_uid, root)
        if transfer_syntax_uid == ExplicitVRLittleEndian:
            ds.PixelData = planes[index].tobytes()
        elif transfer_syntax_uid == RLELossless:
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.PixelData = planes[index].tobytes()
            ds.compress(RLELossless, generate_instance_uid=False)
        else:
            ds.PixelData = encapsulate([ENCODERS[transfer_syntax_uid](planes[index])])
            ds["PixelData"].is_undefined_length = True
        ds.save_as(folder / f"{index:05d}.dcm", enforce_file_format=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(len(planes))))


def _header(index: int, transfer_syntax_uid: str, root: str) -> Dataset:
    """Return a header of about a hundred attributes, so that reading it costs as much as with real scanners."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = f"{root}000{index + 1}"
    ds.file_meta.TransferSyntaxUID = transfer_syntax_uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = f"{root}1", f"{root}2", f"{root}3"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "CT", "Synthetic", "Benchmark"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20260101"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "101112.5"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Phantom^Body", "P1", "19700101", "O"
    ds.AccessionNumber, ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "A1", "1", 3, index + 1
    ds.AcquisitionNumber, ds.PatientPosition, ds.BodyPartExamined = 1, "HFS", "CHEST"
    ds.KVP, ds.XRayTubeCurrent, ds.ExposureTime, ds.Exposure = 120, 250, 500, 125
    ds.ConvolutionKernel, ds.FilterType, ds.GantryDetectorTilt, ds.TableHeight = "B30f", "0", 0, 150
    ds.DataCollectionDiameter, ds.ReconstructionDiameter, ds.ScanOptions = 500, 410, "HELIX"
    ds.SliceThickness, ds.PixelSpacing = SPACING_MM[0], list(SPACING_MM[1:])
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.ImagePositionPatient = [-204.8, -190.3, -500.5 + index * SPACING_MM[0]]
    ds.SliceLocation = -500.5 + index * SPACING_MM[0]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = ROWS, COLUMNS, 16, 12, 11
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = INTERCEPT_HU, 1, "HU"
    ds.WindowCenter, ds.WindowWidth = [40, -600], [400, 1500]
    block = ds.private_block(0x0029, "BENCHMARK HEADER", create=True)
    for element in range(N_PRIVATE):
        block.add_new(element, "OB", bytes(PRIVATE_BYTES))
    return ds
