"""Studies, keys and targets that are not what they seem: nothing leaves, or what leaves says no more than is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import (
    ComprehensiveSRStorage,
    EnhancedPETImageStorage,
    PositronEmissionTomographyImageStorage,
    SegmentationStorage,
)

from dicom_node.export.errors import KeyFileError, OutputFolderError
from dicom_node.export.manifest import is_unbroken
from dicom_node.export.output import alone_in
from dicom_node.export.pseudonyms import Pseudonyms
from dicom_node.gate.decisions import GateState
from dicom_node.gate.rules import StudyRules
from dicom_node.store import DecisionKind, Store
from tests.gate.cases import NAMES, copies, export, image, judge, say, seen, told
from tests.store.sending import STUDY, instance, keep

OTHER_KEY = Pseudonyms("HEADS", bytes(range(1, 33)))


def test_26_a_foreign_report_or_seg_in_a_series_of_images_stays(store: Store, tmp_path: Path) -> None:
    for number, (modality, sop_class_uid) in enumerate((("SR", ComprehensiveSRStorage), ("SEG", SegmentationStorage))):
        foreign: dict[str, Any] = {"Modality": modality, "SOPClassUID": sop_class_uid, "PatientID": "MRN-481516"}
        keep(store, instance(7 + number, series="1.2.3.4", **foreign))
    seen(store, "defaced")
    content = export(store, tmp_path / "out")
    assert told(content) == ("exported", "")
    assert {dcmread(path).Modality for path in copies(tmp_path / "out")} == {"CT"}
    counts = content["counts"]
    assert (counts["in"], counts["copied"], counts["refused_by_code"]) == (4, 2, {"foreign-result": 2})


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"PatientName": "Somebody^Else"}, "Patient's Name"),
        ({"PatientBirthDate": "19500101"}, "Patient's Birth Date"),
        ({"PatientID": "OTHER-99"}, "Patient ID or its issuer"),
        ({"IssuerOfPatientID": "ELSEWHERE"}, "Patient ID or its issuer"),
        ({"PatientID": "OTHER-99", "PatientName": "Somebody^Else"}, "Patient ID or its issuer, Patient's Name"),
    ],
)
def test_22_an_instance_of_somebody_else_keeps_its_study_in_even_after_a_release(
    other: dict[str, str], named: str, store: Store, tmp_path: Path
) -> None:
    keep(store, image(5, **({"PatientBirthDate": "19310411"} | other)))
    seen(store, "defaced", PatientBirthDate="19310411")
    if judge(store).state is GateState.REVIEW:
        say(store, DecisionKind.RELEASE, seconds=150)
    assert told(export(store, tmp_path / "out")) == (
        "two-patients",
        f"its objects differ in {named}, so they may be of more than one patient; ask the sender which one is right",
    )
    assert copies(tmp_path / "out") == []


def test_a_name_that_is_written_in_two_ways_is_one_person(store: Store, tmp_path: Path) -> None:
    keep(store, image(5, PatientName="ZYXWVUT, QRSTU M.", PatientBirthDate=""))
    seen(store, "defaced", PatientBirthDate="19310411")
    assert told(export(store, tmp_path / "out")) == ("exported", "")


@pytest.mark.parametrize(("verdict", "says"), [("indeterminate", "NO"), ("face_present", None)])
def test_a_release_says_that_no_face_is_there_only_where_no_model_found_one(
    verdict: str, says: str | None, store: Store, tmp_path: Path
) -> None:
    rules = StudyRules(release_of_blocked="allowed")
    seen(store, verdict, rules=rules)
    judge(store, rules)
    say(store, DecisionKind.RELEASE, rules=rules, seconds=150)
    assert told(export(store, tmp_path / "out", rules)) == ("exported", "")
    for ds in map(dcmread, copies(tmp_path / "out")):
        assert ds.get("RecognizableVisualFeatures") == says
        assert ("113102" in [item.CodeValue for item in ds.DeidentificationMethodCodeSequence]) == (says == "NO")


def test_31_a_project_that_left_under_one_key_does_not_leave_under_another_wherever_to(
    store: Store, tmp_path: Path
) -> None:
    seen(store, "defaced")
    export(store, tmp_path / "one")
    with pytest.raises(KeyFileError, match="not the one with which this project was exported before"):
        export(store, tmp_path / "two", names=OTHER_KEY)
    assert not (tmp_path / "two").exists()
    assert len(store.exports.list()) == 1
    again = Pseudonyms("TAILS", OTHER_KEY.key)
    assert told(export(store, tmp_path / "three", names=again), names=again) == ("exported", "")


def test_the_manifest_of_an_earlier_run_stays_next_to_the_newest(store: Store, tmp_path: Path) -> None:
    other = "1.2.826.0.1.3680043.9"
    seen(store, "defaced")
    seen(store, "defaced", series=f"{other}.1", study=other)
    first = export(store, tmp_path / "out", cohort=[STUDY])
    second = export(store, tmp_path / "out", cohort=[other])
    export(store, tmp_path / "out", cohort=[other])
    (kept,) = (tmp_path / "out" / "manifests").iterdir()
    assert json.loads(kept.read_text()) == first
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == second
    named = {one["path"] for content in (first, second) for one in content["instances"]}
    assert named == {str(path.relative_to(tmp_path / "out")) for path in copies(tmp_path / "out")}
    assert is_unbroken(first)


@pytest.mark.parametrize("name", [".staging", "3Q2R7VNNHGF5KDHM", "manifest.json"])
def test_copies_do_not_leave_through_a_symbolic_link_in_the_target(name: str, store: Store, tmp_path: Path) -> None:
    seen(store, "defaced")
    export(store, tmp_path / "out", is_dry_run=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputFolderError, match="holds symbolic links"):
        export(store, tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_two_exports_at_once_to_one_folder_are_not_mixed(store: Store, tmp_path: Path) -> None:
    seen(store, "defaced")
    export(store, tmp_path / "out", is_dry_run=True)
    with alone_in(tmp_path / "out"), pytest.raises(OutputFolderError, match="another run writes into it"):
        export(store, tmp_path / "out")
    assert copies(tmp_path / "out") == []
    assert told(export(store, tmp_path / "out")) == ("exported", "")


def test_a_folder_of_another_project_is_left_as_it_is(store: Store, tmp_path: Path) -> None:
    seen(store, "defaced")
    export(store, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    for is_dry_run in (True, False):
        with pytest.raises(OutputFolderError, match="for another project"):
            export(store, tmp_path / "out", names=Pseudonyms("TAILS", NAMES.key), is_dry_run=is_dry_run)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_a_target_that_cannot_be_written_is_named(store: Store, tmp_path: Path) -> None:
    seen(store, "defaced")
    export(store, tmp_path / "out", is_dry_run=True)
    (tmp_path / "out" / ".lock").unlink()
    (tmp_path / "out" / ".lock").mkdir()  # as good as a file system that is read-only
    with pytest.raises(OutputFolderError, match=r"cannot be written \(Is a directory\)"):
        export(store, tmp_path / "out")


@pytest.mark.parametrize("sop_class_uid", [PositronEmissionTomographyImageStorage, EnhancedPETImageStorage])
def test_images_of_a_kind_that_no_model_looks_at_stay_although_the_profile_copies_them(
    sop_class_uid: str, store: Store, tmp_path: Path
) -> None:
    keep(store, image(7, SOPClassUID=sop_class_uid, Modality="PT"))
    seen(store, "defaced")
    content = export(store, tmp_path / "out")
    assert told(content) == ("exported", "")
    assert {dcmread(path).Modality for path in copies(tmp_path / "out")} == {"CT"}
    assert content["counts"]["refused_by_code"] == {"foreign-result": 1}
