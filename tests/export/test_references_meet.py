"""SEG, SR and KOS of an export point at the exported series, and say what they said; validators find no new error."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, KeyObjectSelectionDocumentStorage

from dicom_node.export.cleaner import Cleaner
from dicom_node.export.copying import write_copy
from dicom_node.export.profile import read_profile
from dicom_node.export.pseudonyms import Pseudonyms
from inference.series.assemble import assemble_volumes
from inference.series.files import PathSource
from sr_writer.report import Findings, write_report
from sr_writer.sources import SourceFrame
from tests.factories import ct_series
from tests.peer_servers import tool
from tests.sr_writer.test_report import numbers_of
from tests.sr_writer.writing import ALGORITHMS, WRITTEN_AT, headers_of, lineage_of, masks_on, write

NAMES = Pseudonyms("HEADS", bytes(range(32)))


def patient(ds: Dataset, _: int) -> None:
    ds.PatientID, ds.PatientName, ds.ImageType = "MRN-123456", "Zyxwvut^Qrstu", ["ORIGINAL", "PRIMARY", "AXIAL"]


SERIES = ct_series(n_slices=4, rows=24, columns=20, edit=patient)
MASKS = masks_on(SERIES.voxels.shape)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Files of the images, and of the SEG, SR and KOS on them."""
    folder = tmp_path_factory.mktemp("sources")
    headers = headers_of(SERIES)
    seg = write(headers, SERIES.truth.get_geometry(), *MASKS)
    assert seg is not None
    report = write_report(
        headers,
        seg,
        Findings({"foreground": 1234.5678, "anonymized": 56.7}, "defaced", 0.98765, ("threshold=0.5",), ("why",)),
        algorithms=ALGORITHMS,
        lineage=lineage_of(SERIES.series_instance_uid),
        written_at=WRITTEN_AT,
        plane_sources=[SourceFrame(str(ds.SOPClassUID), str(ds.SOPInstanceUID), None) for ds in headers],
        predecessors=(),
        segment_numbers=numbers_of(seg),
    )
    selection = hd.ko.KeyObjectSelection(
        document_title=codes.DCM.ForResearch, referenced_objects=[*headers, dcmread(BytesIO(seg.part10()))]
    )
    kos = hd.ko.KeyObjectSelectionDocument(
        evidence=[*headers, dcmread(BytesIO(seg.part10()))],
        content=selection,
        series_instance_uid="2.25.91",
        series_number=9,
        sop_instance_uid="2.25.92",
        instance_number=1,
        manufacturer="Synthetic",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    kos.save_as(folder / "kos.dcm")
    (folder / "seg.dcm").write_bytes(seg.part10())
    (folder / "sr.dcm").write_bytes(report.part10())
    names = {"seg": [folder / "seg.dcm"], "sr": [folder / "sr.dcm"], "kos": [folder / "kos.dcm"]}
    return {"images": SERIES.write_to(folder / "images"), **names}


@pytest.fixture(scope="module")
def copies(sources: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    out = tmp_path_factory.mktemp("copies")
    cleaner = Cleaner(read_profile(None), NAMES)
    found: dict[str, list[Path]] = {}
    for kind, paths in sources.items():
        for path in paths:
            with path.open("rb") as file:
                found.setdefault(kind, []).append(out / write_copy(file, out, cleaner).relative_path)
    return found


def references(ds: Dataset) -> Iterator[str]:
    for element in ds.iterall():
        if element.keyword in ("ReferencedSOPInstanceUID", "ReferencedSeriesInstanceUID"):
            yield str(element.value)


def test_every_reference_is_to_an_exported_object(copies: dict[str, list[Path]]) -> None:
    exported = [dcmread(path) for paths in copies.values() for path in paths]
    uids = {str(ds.SOPInstanceUID) for ds in exported}
    assert {str(ds.StudyInstanceUID) for ds in exported} == {NAMES.mapped_uid(SERIES.study_instance_uid)}
    for kind in ("seg", "sr", "kos"):
        named = set(references(dcmread(copies[kind][0])))
        assert named, kind
        assert named <= uids, kind
    images = {str(dcmread(path).SOPInstanceUID) for path in copies["images"]}
    assert images <= set(references(dcmread(copies["seg"][0])))
    seg_uid = str(dcmread(copies["seg"][0]).SOPInstanceUID)
    assert seg_uid in set(references(dcmread(copies["sr"][0])))


def test_the_mask_lies_on_the_exported_series_where_it_lay_before(copies: dict[str, list[Path]]) -> None:
    (volume,) = assemble_volumes([PathSource(path) for path in copies["images"]])
    assert np.array_equal(volume.volume.array, SERIES.voxels)
    seg = hd.seg.segread(copies["seg"][0])
    for number, mask in zip(seg.segment_numbers, MASKS, strict=True):
        placed = seg.get_volume(segment_numbers=[number], combine_segments=True, skip_overlap_checks=True)
        assert np.array_equal(placed.match_geometry(volume.volume).array > 0, mask)


def test_the_report_keeps_its_numbers_and_codes_and_no_name(copies: dict[str, list[Path]]) -> None:
    after = hd.sr.srread(copies["sr"][0])
    groups = after.content.get_volumetric_roi_measurement_groups()
    volume = hd.sr.CodedConcept("118565006", "SCT", "Volume")
    assert {round(group.get_measurements(volume)[0].value, 1) for group in groups} == {1234.6, 56.7}
    assert {group.finding_type.value for group in groups} == {"38266002", "ANON-AREA"}
    assert after.SOPClassUID == ComprehensiveSRStorage
    assert b"Zyxwvut" not in copies["sr"][0].read_bytes()


def test_the_key_object_selection_keeps_its_title(copies: dict[str, list[Path]]) -> None:
    kos = dcmread(copies["kos"][0])
    assert kos.SOPClassUID == KeyObjectSelectionDocumentStorage
    assert kos.ConceptNameCodeSequence[0].CodeValue == "113009"


@pytest.mark.peers
@pytest.mark.parametrize("kind", ["images", "seg", "sr", "kos"])
def test_a_validator_finds_no_error_that_the_source_has_not(
    kind: str, sources: dict[str, list[Path]], copies: dict[str, list[Path]]
) -> None:
    assert errors(copies[kind][0]) - errors(sources[kind][0]) == set()


def errors(path: Path) -> set[str]:
    told = subprocess.run([tool("dciodvfy"), str(path)], capture_output=True, text=True, errors="replace", check=False)
    return {line for line in told.stderr.splitlines() if line.startswith("Error")}
