"""Cases 9 to 40 of what may leave, one test each, with outcome and reason: what happens while a study is exported.

Case 35 is in ``test_peer_export.py``, 32 in ``test_export_killed.py``, 36 and 37 in ``test_export_studies.py``, 39 in
``tests/peers/test_notices_orthanc.py``.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import EncapsulatedPDFStorage, RawDataStorage, SecondaryCaptureImageStorage, SegmentationStorage

from dicom_node.export import workers
from dicom_node.export.cleaner import Cleaner
from dicom_node.export.copying import write_copy
from dicom_node.export.errors import KeyFileError
from dicom_node.export.profile import read_profile
from dicom_node.export.pseudonyms import Pseudonyms, read_key
from dicom_node.gate.decisions import GateState
from dicom_node.pipeline.rules import load_rules
from dicom_node.store import DecisionKind, ExportState, NewResult, SeriesState, Store
from tests.arrivals import complete_quiet
from tests.factories import enhanced_mr, mr_series
from tests.gate.cases import (
    NAMES,
    START,
    copies,
    copy_of_template,
    export,
    image,
    judge,
    received,
    say,
    seen,
    skipped,
    told,
)
from tests.store.sending import STUDY, instance, keep


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Iterator[Store]:
    with Store.open(copy_of_template(template, tmp_path / "node")) as opened:
        yield opened


def refusals(content: dict[str, Any]) -> dict[str, int]:
    found: dict[str, int] = content["counts"]["refused_by_code"]
    return found


def seg(series: str = "1.2.3.4.900", number: int = 1, **attributes: Any) -> NewResult:
    """A result of ours, as far as an export looks at it."""
    identity = {"PatientID": "MRN-481516", "PatientName": "Zyxwvut^Qrstu"}
    attributes = identity | {"SOPClassUID": SegmentationStorage} | attributes
    made = instance(number, series=series, Modality="SEG", **attributes)
    return NewResult(
        "seg", number, made.arrival.sop_class_uid, made.uid, made.arrival.transfer_syntax_uid, made.encoded
    )


def test_09_a_slice_that_comes_between_staging_and_publishing_keeps_the_study_in(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(store, "defaced")
    copy = workers.write_copy

    def slow(*arguments: Any, **options: Any) -> Any:
        keep(store, image(9))
        return copy(*arguments, **options)

    monkeypatch.setattr(workers, "write_copy", slow)
    outcome, reason = told(export(store, tmp_path / "out"))
    assert (outcome, reason) == ("changed-meanwhile", "something arrived or was decided while it was de-identified")
    assert copies(tmp_path / "out") == []
    assert not (tmp_path / "out" / ".staging").exists()


def test_09_a_study_that_was_cleared_again_meanwhile_does_not_leave_with_what_was_staged_before(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(store, "defaced")
    copy = workers.write_copy

    def slow(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(workers, "write_copy", copy)
        skipped(store, "1.2.3.5")
        assert judge(store).state is GateState.CLEARED
        return copy(*arguments, **options)

    monkeypatch.setattr(workers, "write_copy", slow)
    assert told(export(store, tmp_path / "out"))[0] == "changed-meanwhile"
    assert (copies(tmp_path / "out"), store.exports.list()) == ([], ())
    assert told(export(store, tmp_path / "out")) == ("exported", "")


def test_10_a_face_that_comes_after_the_export_withdraws_it_and_nothing_is_called_back(
    store: Store, tmp_path: Path
) -> None:
    seen(store, "defaced")
    export(store, tmp_path / "out")
    seen(store, "face_present", series="1.2.3.5")
    content = export(store, tmp_path / "out")
    assert told(content) == ("not-cleared", "blocked: 1 of 2 series face present")
    (withdrawn,) = content["withdrawn"]
    assert (withdrawn["study"], withdrawn["reason"]) == (NAMES.mapped_uid(STUDY), "the study is now blocked")
    assert [row.state for row in store.exports.list()] == [ExportState.WITHDRAWN]
    assert copies(tmp_path / "out") != []  # they are with somebody else


def test_20_two_patient_ids_or_issuers_are_two_pseudonyms() -> None:
    names = {NAMES.patient(*one) for one in (("1", ""), ("2", ""), ("1", "HOSPITAL"), ("1", "OTHER"))}
    assert len(names) == 4
    assert len({NAMES.date_offset(*one) for one in (("1", ""), ("2", ""), ("1", "HOSPITAL"))}) == 3


@pytest.mark.parametrize("patient_id", ["", "ANON", "0", "unknown"])
def test_21_no_pseudonym_is_made_from_a_patient_id_that_names_nobody(
    patient_id: str, store: Store, tmp_path: Path
) -> None:
    seen(store, "defaced", PatientID=patient_id)
    content = export(store, tmp_path / "out")
    assert told(content) == ("nothing-to-export", "the profile allows none of its objects")
    assert refusals(content) == {"no-patient-id": 2}
    assert "a pseudonym made from it would join different people" in content["refused"][0]["reason"]


def test_22_one_study_of_two_patients_is_reported_and_refused_even_after_a_release(
    store: Store, tmp_path: Path
) -> None:
    seen(store, "defaced")
    seen(store, "defaced", series="1.2.3.5", PatientID="OTHER-99")
    found = judge(store)
    assert found.state is GateState.REVIEW
    assert found.reason == "2 different Patient IDs in it; 2 of 2 series defaced"
    say(store, DecisionKind.RELEASE, seconds=150)
    outcome, reason = told(export(store, tmp_path / "out"))
    assert outcome == "two-patients"
    assert reason.startswith("its objects differ in Patient ID or its issuer, so they may be of more than one patient;")
    assert copies(tmp_path / "out") == []


def test_23_an_object_that_says_it_is_de_identified_is_de_identified_again(store: Store, tmp_path: Path) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113108", "DCM", "Retain Patient Characteristics"
    seen(store, "defaced", PatientIdentityRemoved="YES", DeidentificationMethodCodeSequence=[code])
    assert told(export(store, tmp_path / "out")) == ("exported", "")
    for path in copies(tmp_path / "out"):
        assert b"Zyxwvut" not in path.read_bytes()
        codes = [item.CodeValue for item in dcmread(path).DeidentificationMethodCodeSequence]
        assert codes[:2] == ["113108", "113100"]


def test_24_text_in_pixels_keeps_an_image_in(store: Store, tmp_path: Path) -> None:
    seen(store, "defaced", BurnedInAnnotation="YES")
    content = export(store, tmp_path / "out")
    assert told(content)[0] == "nothing-to-export"
    assert refusals(content) == {"burned-in-annotation": 2}
    assert "clean the pixels" in content["refused"][0]["reason"]


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"ImageType": ["DERIVED", "SECONDARY"], "BurnedInAnnotation": "NO"}, "image-type"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "SCREEN SAVE"]}, "image-type"),
        ({"SOPClassUID": SecondaryCaptureImageStorage, "BurnedInAnnotation": "NO"}, "foreign-result"),
    ],
)
def test_25_a_vendors_word_that_pixels_hold_no_text_is_no_proof(
    attributes: dict[str, Any], code: str, store: Store, tmp_path: Path
) -> None:
    seen(store, "defaced", **attributes)
    content = export(store, tmp_path / "out")
    assert told(content)[0] == "nothing-to-export"
    assert refusals(content) == {code: 2}


@pytest.mark.parametrize(
    "sop_class_uid",
    [
        EncapsulatedPDFStorage,
        RawDataStorage,
        "1.2.840.10008.5.1.4.1.1.77.1.1.1",  # video endoscopic image
        "1.2.840.10008.5.1.4.1.1.9.1.1",  # 12-lead ECG waveform
        "1.2.840.10008.5.1.4.1.1.11.1",  # grayscale presentation state
        "1.2.840.10008.5.1.4.1.1.88.11",  # basic text SR of somebody else
    ],
)
def test_26_documents_videos_raw_data_waveforms_and_foreign_reports_stay_and_are_counted(
    sop_class_uid: str, store: Store, tmp_path: Path
) -> None:
    seen(store, "defaced", SOPClassUID=sop_class_uid)
    content = export(store, tmp_path / "out")
    assert told(content)[0] == "nothing-to-export"
    assert refusals(content) == {"foreign-result": 2}


def test_27_private_groups_of_an_enhanced_image_go_and_its_frames_stay(tmp_path: Path) -> None:
    def private(ds: Dataset) -> None:
        ds.PatientID = "MRN-481516"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
        for item in ds.PerFrameFunctionalGroupsSequence:
            item.private_block(0x2005, "VENDOR PRIVATE", create=True).add_new(0x10, "LO", "Zyxwvut")

    source = enhanced_mr(mr_series(n_slices=3, rows=16, columns=12), edit=private)
    cleaner = Cleaner(read_profile(None), NAMES)
    copy = dcmread(tmp_path / write_copy(source.open(), tmp_path, cleaner).relative_path)
    assert not any(element.tag.is_private for element in copy.iterall())
    before = source.dataset()
    assert len(copy.PerFrameFunctionalGroupsSequence) == 3
    assert copy.PixelData == before.PixelData
    for ours, theirs in zip(
        copy.PerFrameFunctionalGroupsSequence, before.PerFrameFunctionalGroupsSequence, strict=True
    ):
        assert ours.PlanePositionSequence == theirs.PlanePositionSequence


def test_28_a_seg_stays_when_an_image_of_its_source_was_refused(store: Store, tmp_path: Path) -> None:
    keep(store, image(3, BurnedInAnnotation="YES"))
    seen(store, "defaced", results=[seg()])
    content = export(store, tmp_path / "out")
    assert told(content) == ("exported", "")
    assert {dcmread(path).Modality for path in copies(tmp_path / "out")} == {"CT"}
    assert refusals(content) == {"burned-in-annotation": 1}


def test_29_a_seg_of_an_older_generation_stays(store: Store, tmp_path: Path) -> None:
    seen(store, "defaced", results=[seg()])
    keep(store, image(3))
    seen(store, "defaced", results=[seg("1.2.3.4.901")], n=0)
    export(store, tmp_path / "out")
    segs = {
        str(dcmread(path).SeriesInstanceUID) for path in copies(tmp_path / "out") if dcmread(path).Modality == "SEG"
    }
    assert segs == {NAMES.mapped_uid("1.2.3.4.901")}


def test_30_a_result_that_a_pacs_has_changed_and_sent_back_is_no_source(store: Store) -> None:
    keep(store, instance(1, series="1.2.3.77", Modality="SEG", SOPClassUID=SegmentationStorage, InstitutionName="PACS"))
    complete_quiet(
        store,
        load_rules(None, peer_names=()),
        pipeline_digest="d",
        quiet_s=1,
        now=START + timedelta(days=1),
    )
    row = store.series.get("1.2.3.77")
    assert (row.state, store.jobs.list()) == (SeriesState.SKIPPED, ())
    assert judge(store).reason == "no model has seen any series of it"


@pytest.mark.parametrize("fault", ["missing", "empty", "readable by others"])
def test_31_without_a_key_that_can_be_trusted_nothing_leaves(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "study.key"
    if fault != "missing":
        path.write_bytes(b"" if fault == "empty" else bytes(range(32)))
        path.chmod(0o644 if fault == "readable by others" else 0o600)
    with pytest.raises(KeyFileError, match="nothing was written"):
        read_key(path)


def test_31_a_key_that_changed_is_a_new_project_and_does_not_write_into_the_old_one(
    store: Store, tmp_path: Path
) -> None:
    seen(store, "defaced")
    export(store, tmp_path / "out")
    before = copies(tmp_path / "out")
    with pytest.raises(KeyFileError, match="not the one with which this project was exported before"):
        export(store, tmp_path / "out", names=Pseudonyms("HEADS", bytes(range(1, 33))))
    assert copies(tmp_path / "out") == before


def test_33_the_same_cohort_again_is_the_same_bytes_and_no_second_object(store: Store, tmp_path: Path) -> None:
    seen(store, "defaced")
    export(store, tmp_path / "out", cohort=[STUDY])
    before = {path: path.read_bytes() for path in copies(tmp_path / "out")}
    again = export(store, tmp_path / "out", cohort=[STUDY])
    assert {path: path.read_bytes() for path in copies(tmp_path / "out")} == before
    assert told(again) == ("exported", "")
    assert len(store.exports.list()) == 1


def test_34_two_projects_have_no_uid_pseudonym_or_date_in_common(store: Store, tmp_path: Path) -> None:
    seen(store, "defaced")
    values = []
    for project in ("ONE", "TWO"):
        export(store, tmp_path / project, names=Pseudonyms(project, bytes(range(32))))
        found: set[str] = set()
        for ds in map(dcmread, copies(tmp_path / project)):
            found |= {str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID)}
            found |= {str(ds.PatientID), str(ds.StudyDate)}
        values.append(found)
    assert values[0].isdisjoint(values[1])


def test_38_dates_move_by_the_key_and_not_by_todays_date(store: Store, tmp_path: Path) -> None:
    seen(store, "defaced", StudyDate="20991231")  # a service date in the future, or a clock that was set back
    export(store, tmp_path / "out")
    (date,) = {str(dcmread(path).StudyDate) for path in copies(tmp_path / "out")}
    assert date == ((START.replace(year=2099, month=12, day=31)) + NAMES.date_offset("MRN-481516", "")).strftime(
        "%Y%m%d"
    )
    parts = (b"HEADS", b"date-offset", b"\0MRN-481516")
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    by_hand = 365 + int.from_bytes(hmac.digest(bytes(range(32)), message, "sha256")[:8], "big") % 3285
    assert NAMES.date_offset("MRN-481516", "") == timedelta(days=-by_hand)


def test_40_what_a_cohort_names_and_may_not_leave_is_in_the_manifest_with_its_reason(
    store: Store, tmp_path: Path
) -> None:
    seen(store, "indeterminate")
    received(store, "1.2.9.1", "1.2.9")
    content = export(store, tmp_path / "out", cohort=[STUDY, "1.2.9", "1.2.404"])
    assert [told(content, study) for study in (STUDY, "1.2.9", "1.2.404")] == [
        ("not-cleared", "review: 1 of 1 series indeterminate"),
        ("not-cleared", "open: still receiving, or not judged yet"),
        ("unknown-study", "the node has no such study"),
    ]
