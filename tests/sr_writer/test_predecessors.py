"""A result that replaces earlier ones says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.uid import ComprehensiveSRStorage, SegmentationStorage

from sr_writer.objects import Predecessor
from tests.factories import ct_series
from tests.sr_writer.test_segmentation_peers import complaints_of_dciodvfy, dcmqi_points
from tests.sr_writer.writing import lineage_of, read_with_highdicom, write_phantom

EARLIER = (
    Predecessor(SegmentationStorage, "2.25.11", "2.25.1"),
    Predecessor(SegmentationStorage, "2.25.12", "2.25.1"),  # another stack of the same generation
    Predecessor(SegmentationStorage, "2.25.21", "2.25.2"),
)


def test_each_predecessor_is_referenced_with_the_purpose_of_replacing_it() -> None:
    _, ds = write_phantom(predecessors=EARLIER)
    assert [item.ReferencedSOPInstanceUID for item in ds.ReferencedImageSequence] == ["2.25.11", "2.25.12", "2.25.21"]
    for item in ds.ReferencedImageSequence:
        assert item.ReferencedSOPClassUID == SegmentationStorage
        (purpose,) = item.PurposeOfReferenceCodeSequence
        assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("REPLACED-RESULT", "99DICOMNODE")


def test_a_report_among_the_predecessors_is_no_image_that_the_seg_replaces() -> None:
    report = Predecessor(ComprehensiveSRStorage, "2.25.31", "2.25.3")
    assert write_phantom(predecessors=(*EARLIER, report))[0] == write_phantom(predecessors=EARLIER)[0]


def test_the_series_of_predecessors_follow_the_source_series() -> None:
    series = ct_series(7, rows=11, columns=13)
    _, ds = write_phantom(series, predecessors=EARLIER)
    source, first, second = ds.ReferencedSeriesSequence
    assert source.SeriesInstanceUID == series.series_instance_uid  # viewers look at the first
    assert (first.SeriesInstanceUID, second.SeriesInstanceUID) == ("2.25.1", "2.25.2")
    assert [item.ReferencedSOPInstanceUID for item in first.ReferencedInstanceSequence] == ["2.25.11", "2.25.12"]


def test_a_person_who_sees_both_series_can_tell_which_one_counts() -> None:
    _, first = write_phantom()
    _, second = write_phantom(predecessors=EARLIER[:1], lineage=lineage_of(first.SeriesInstanceUID, generation=2))
    assert first.SeriesDescription == "Foreground and anonymized area"
    assert second.SeriesDescription == "Foreground and anonymized area (replaces earlier)"


def test_a_result_without_predecessors_says_nothing_of_them() -> None:
    written, ds = write_phantom()
    assert "ReferencedImageSequence" not in ds
    assert len(ds.ReferencedSeriesSequence) == 1
    assert write_phantom(predecessors=())[0].encoded_dataset == written.encoded_dataset


@pytest.mark.peers
def test_other_toolkits_take_a_result_that_replaces_others(tmp_path: Path) -> None:
    written, _ = write_phantom(predecessors=EARLIER)
    alone, _ = write_phantom()
    assert complaints_of_dciodvfy(written, tmp_path) == []
    assert read_with_highdicom(written.part10()) == read_with_highdicom(alone.part10())
    (tmp_path / "dcmqi").mkdir()
    assert set(dcmqi_points(written, tmp_path / "dcmqi")) == {1, 2}
