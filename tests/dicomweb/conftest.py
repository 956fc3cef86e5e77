"""One archive for all tests of this room: four small series and a SEG-like instance, and a server over it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import httpx
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless

from dicom_node.store import Store
from tests.arrivals import receive
from tests.dicomweb.serving import serve
from tests.factories import EncodedInstance, SyntheticSeries, ct_series, encode, mr_series
from tests.new_store import NewStore

SCRIPT = '<script>alert("1")</script>'
OVERLAY = bytes(range(256)) * 8


@dataclass(frozen=True)
class Archive:
    """What was stored, and where it is served."""

    url: str
    ct: SyntheticSeries
    mr: SyntheticSeries  # in the study of the CT
    compressed: SyntheticSeries
    implicit: SyntheticSeries
    hostile: SyntheticSeries  # script in its texts
    multiframe: EncodedInstance  # one-bit frames that do not fill whole bytes, and nested bulk data
    store: Store

    @property
    def root(self) -> str:
        return f"{self.url}/dicom-web"


def _hostile(ds: Dataset, _: int) -> None:
    ds.PatientName = f"Eve^{SCRIPT}"
    ds.PatientID = SCRIPT
    ds.StudyDescription = SCRIPT
    ds.SeriesDescription = "\u202e" + SCRIPT


def _other_study(ds: Dataset, _: int) -> None:
    ds.PatientName = "Zoë^Ann"
    ds.PatientID = "P2"
    ds.StudyDate = "20211231"


def one_bit_frames() -> np.ndarray:
    """(frame, row, column) pixels of `multiframe_instance`."""
    return np.random.default_rng(5).random((3, 5, 7)) < 0.5


def multiframe_instance() -> EncodedInstance:
    ds = ct_series(1, seed="multiframe").datasets()[0]
    ds.NumberOfFrames, ds.Rows, ds.Columns = one_bit_frames().shape
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = ds.PixelRepresentation = 0
    packed = np.packbits(one_bit_frames(), bitorder="little").tobytes()
    ds.PixelData = packed + b"\0" * (len(packed) % 2)
    ds["PixelData"].VR = "OB"
    item = Dataset()
    item.add_new("WaveformData", "OW", OVERLAY)
    ds.WaveformSequence = [Dataset(), item]
    return encode(ds)


@pytest.fixture(scope="module")
def archive(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    ct = ct_series(4, rows=16, columns=12)
    series = {
        "ct": ct,
        "mr": replace(
            mr_series(3, edit=lambda ds, _: setattr(ds, "StudyInstanceUID", ct.study_instance_uid)),
            study_instance_uid=ct.study_instance_uid,
        ),
        "compressed": ct_series(2, transfer_syntax_uid=JPEG2000Lossless, seed="compressed", edit=_other_study),
        "implicit": ct_series(2, transfer_syntax_uid=ImplicitVRLittleEndian, seed="implicit", edit=_other_study),
        "hostile": ct_series(1, seed="hostile", edit=_hostile),
    }
    multiframe = multiframe_instance()
    with new_store(tmp_path_factory.mktemp("archive")) as store:
        for instances in series.values():
            receive(store, instances)
        receive(store, [multiframe])
        with serve(store) as url:
            yield Archive(url=url, store=store, multiframe=multiframe, **series)


@pytest.fixture(scope="module")
def http(archive: Archive) -> Iterator[httpx.Client]:
    """Client below the DICOMweb root."""
    with httpx.Client(base_url=archive.root, trust_env=False, timeout=60) as client:
        yield client
