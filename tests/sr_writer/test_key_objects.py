"""The Key Object Selection Document, read by highdicom, dciodvfy, dcmtk and PixelMed's validator."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import highdicom as hd
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

import sr_writer
from sr_writer.encoding import encode_dataset
from sr_writer.key_objects import write_key_objects
from sr_writer.objects import WrittenObject
from sr_writer.references import Reference, hierarchical_references
from tests.factories import ct_series
from tests.peer_servers import tool
from tests.sr_writer.test_report_validators import told_by_pixelmed
from tests.sr_writer.writing import headers_of

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
HEADERS = headers_of(ct_series(5, rows=11, columns=13))
SOURCES = [Reference(str(ds.SeriesInstanceUID), str(ds.SOPClassUID), str(ds.SOPInstanceUID)) for ds in HEADERS]
RESULTS = [
    Reference("2.25.5", "1.2.840.10008.5.1.4.1.1.66.4", "2.25.51"),
    Reference("2.25.6", "1.2.840.10008.5.1.4.1.1.88.33", "2.25.61"),
]


def written(instances: list[Reference] | None = None) -> WrittenObject:
    return write_key_objects(
        HEADERS[0],
        [*SOURCES, *RESULTS] if instances is None else instances,
        description="The rules of the node let this study leave.",
        pipeline_digest="c" * 64,
        written_at=NOON,
    )


def test_the_same_instances_make_the_same_bytes_and_others_another_document() -> None:
    assert written() == written()
    other = written(SOURCES)
    assert other.sop_instance_uid != written().sop_instance_uid
    assert other.series_instance_uid != written().series_instance_uid


def test_highdicom_reads_what_it_lists() -> None:
    document = hd.ko.KeyObjectSelectionDocument.from_dataset(dcmread(BytesIO(written().part10())))
    assert document.content.get_observer_contexts()
    listed = [str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for item in document.content.get_references()]
    assert listed == [one.sop_instance_uid for one in (*SOURCES, *RESULTS)]
    study_uid, series_uid, _ = document.resolve_reference("2.25.61")
    assert (study_uid, series_uid) == (HEADERS[0].StudyInstanceUID, "2.25.6")


def test_no_title_that_makes_archives_hide_images_is_known_to_the_writer() -> None:
    """Rejection notes (IHE IOCM) say that images are bad; a study that may not leave simply has no document."""
    source = "".join(path.read_text() for path in Path(sr_writer.__file__).parent.glob("*.py"))
    assert not [title for title in ("113001", "113037", "113038", "113039") if title in source]


@pytest.mark.peers
def test_dciodvfy_finds_no_error_and_dsrdump_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "kos.dcm"
    path.write_bytes(written().part10())
    told = subprocess.run([tool("dciodvfy"), str(path)], capture_output=True, text=True, check=False).stderr
    assert [line for line in told.splitlines() if line.startswith("Error")] == []
    dump = subprocess.run([tool("dsrdump"), str(path)], capture_output=True, text=True, check=True).stdout
    assert "For Research Collection Export" in dump
    assert dump.count("<contains IMAGE:") == 6
    assert dump.count("<contains COMPOSITE:") == 1


@pytest.mark.peers
@pytest.mark.slow
def test_pixelmed_finds_no_error(tmp_path: Path) -> None:
    path = tmp_path / "kos.dcm"
    path.write_bytes(written().part10())
    told = told_by_pixelmed(path)
    # The validator of 2022 does not know the title 128713, and then calls everything "not in template".
    assert [line for line in told if "Content Item not in template" not in line] == []


def test_references_that_are_encoded_here_are_those_that_pydicom_would_write() -> None:
    instances = [*SOURCES, *RESULTS, Reference("2.25.6", "1.2.3", "1.2.3.45")]  # odd and even lengths
    (study,) = hierarchical_references("1.2.3", instances)
    by_hand = Dataset()
    by_hand.StudyInstanceUID = "1.2.3"
    by_hand.ReferencedSeriesSequence = []
    for series_uid in dict.fromkeys(one.series_instance_uid for one in instances):
        series = Dataset()
        series.SeriesInstanceUID = series_uid
        series.ReferencedSOPSequence = []
        for one in (one for one in instances if one.series_instance_uid == series_uid):
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.sop_class_uid, one.sop_instance_uid
            series.ReferencedSOPSequence.append(item)
        by_hand.ReferencedSeriesSequence.append(series)
    assert encode_dataset(study) == encode_dataset(by_hand)
