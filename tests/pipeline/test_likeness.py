"""What differs between two contents of one instance, by name, and contents that differ in their encoding alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.pipeline.likeness import NOT_COMPARED, compare_due, differing_names
from dicom_node.store import ConflictChoice, Kept, Store
from tests.arrivals import receive
from tests.factories import EncodedInstance, ct_series
from tests.new_store import NewStore

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


@pytest.fixture
def store(new_store: NewStore, tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "node") as opened:
        yield opened


def named(ds: Dataset, _: int) -> None:
    ds.PatientName = "Example^Ann"
    ds.RequestAttributesSequence = [Dataset()]
    ds.RequestAttributesSequence[0].ScheduledProcedureStepID = "1"
    ds.private_block(0x0029, "VENDOR", create=True).add_new(0x10, "LO", "private")


def instance(syntax: str | None = None) -> EncodedInstance:
    if syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        return ct_series(n_slices=1, transfer_syntax_uid=syntax, edit=named)[0]
    plain = ct_series(n_slices=1, edit=named)[0]
    if syntax is None:
        return plain
    ds = plain.dataset()
    ds.file_meta.TransferSyntaxUID = syntax
    for element in ds.iterall():
        element.value  # noqa: B018 - decoded, so that it is encoded in the other syntax
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    buffer = BytesIO()
    dcmwrite(buffer, ds, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=syntax != ExplicitVRBigEndian)
    return EncodedInstance("other", buffer.getvalue())


@pytest.mark.parametrize(
    "syntax",
    [
        *(ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian),
        *(RLELossless, JPEG2000Lossless, JPEGLSLossless),
    ],
)
def test_the_same_content_in_another_transfer_syntax_differs_in_nothing(syntax: str) -> None:
    assert differing_names(instance().part10, instance(syntax).part10) == ()


def test_what_differs_is_named_and_its_values_are_not() -> None:
    def change(ds: Dataset) -> None:
        ds.PatientName = "Corrected^Ann"
        ds.RequestAttributesSequence[0].ScheduledProcedureStepID = "2"
        ds[0x0029, 0x1010].value = "other"
        del ds.KVP

    other = instance().edited(change)
    names = differing_names(instance().part10, other.part10)
    assert names == ("PatientName", "KVP", "(0029,1010)", "RequestAttributesSequence > ScheduledProcedureStepID")


def test_one_other_pixel_is_a_difference_in_any_encoding() -> None:
    def change(ds: Dataset) -> None:
        pixels = bytearray(ds.PixelData)
        pixels[100] ^= 1
        ds.PixelData = bytes(pixels)

    assert differing_names(instance(JPEGLSLossless).part10, instance().edited(change).part10) == ("PixelData",)


def test_what_cannot_be_read_is_not_the_same() -> None:
    assert differing_names(instance().part10, b"no DICOM") == (NOT_COMPARED,)
    assert differing_names(instance().part10, instance(JPEGLSLossless).part10[:-400]) != ()


def test_a_second_encoding_is_settled_by_the_node_and_a_second_content_waits_for_a_person(store: Store) -> None:
    receive(store, [instance()])
    receive(store, [instance(JPEGLSLossless)], expected=Kept.CONFLICT)
    receive(store, [instance().edited(lambda ds: setattr(ds, "PatientName", "Other"))], expected=Kept.CONFLICT)
    assert store.series.n_conflicts() == 2
    assert compare_due(store, lambda: NOW) == 1
    assert compare_due(store, lambda: NOW) == 0
    waiting, same = store.series.conflicts()
    assert (same.choice, same.differences) == (ConflictChoice.SAME, ())
    assert (waiting.choice, waiting.differences, waiting.settled_at) == (None, ("PatientName",), None)
    assert [(row.actor, row.action) for row in store.audit.list()] == [("node", "conflict-settled")]
    (row,) = store.series.instances(instance().dataset().SeriesInstanceUID)
    assert dcmread(store.objects.path(row.digest)) == instance().dataset()
