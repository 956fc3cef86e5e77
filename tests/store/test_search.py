"""QIDO queries: what matches, what comes back, in which order."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.store import Store, UnsupportedFilterError
from dicom_node.store.index import matches as matches_module
from dicom_node.store.index import search as search_module
from dicom_node.store.index.matches import Matches
from dicom_node.store.schema import instances
from tests.store.sending import instance, keep


@pytest.fixture
def archive(store: Store) -> Store:
    """Three studies of two patients: CT and MR, an ordinary name and one with ideographs."""
    for number in (3, 1, 2):
        keep(store, instance(number, study="1.1", series="1.1.1", StudyDate="20240105", StudyTime="103059.5"))
    keep(store, instance(1, study="1.1", series="1.1.2", Modality="MR", StudyDate="20240105", SeriesNumber=8))
    keep(store, instance(1, study="1.2", series="1.2.1", StudyDate="20250220", StudyTime="1200", AccessionNumber="A_2"))
    japanese = {
        "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "PatientID": "P/3",
    }
    keep(store, instance(1, study="1.3", series="1.3.1", Modality="MR", StudyDate="", **japanese))
    return store


def studies(store: Store, **filters: str) -> list[str]:
    return [study["0020000D"]["Value"][0] for study in store.search.search_studies(filters)]


def test_studies_come_with_their_counts_latest_first(archive: Store) -> None:
    found = list(archive.search.search_studies({}))
    assert [study["0020000D"]["Value"][0] for study in found] == ["1.2", "1.1", "1.3"]
    study = found[1]
    assert study["00080061"]["Value"] == ["CT", "MR"]
    assert (study["00201206"]["Value"], study["00201208"]["Value"]) == ([2], [4])
    assert study["00080056"]["Value"] == ["ONLINE"]
    assert study["00080020"] == {"vr": "DA", "Value": ["20240105"]}
    assert study["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Test^Person"}]}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"StudyInstanceUID": "1.1"}, ["1.1"]),
        ({"StudyInstanceUID": "1.1,1.3"}, ["1.1", "1.3"]),
        ({"StudyInstanceUID": "1.1\\1.2"}, ["1.2", "1.1"]),
        ({"StudyDate": "20240105"}, ["1.1"]),
        ({"StudyDate": "20240101-20241231"}, ["1.1"]),
        ({"StudyDate": "20240106-"}, ["1.2"]),
        ({"StudyDate": "-20240105"}, ["1.1"]),  # an unknown date is in no range
        ({"StudyTime": "1030-1030"}, ["1.1"]),
        ({"AccessionNumber": "A_2"}, ["1.2"]),
        ({"AccessionNumber": "A_*"}, ["1.2"]),  # an underscore is itself, not SQL's wildcard
        ({"AccessionNumber": "A?"}, ["1.1", "1.3"]),
        ({"AccessionNumber": "a*"}, []),  # only names ignore case
        ({"PatientID": "P/*"}, ["1.3"]),
        ({"PatientID": ""}, ["1.2", "1.1", "1.3"]),
        ({"PatientID": "*"}, ["1.2", "1.1", "1.3"]),
        ({"PatientName": "TEST^person"}, ["1.2", "1.1"]),
        ({"PatientName": "test*"}, ["1.2", "1.1"]),
        ({"PatientName": "山田^太郎"}, ["1.3"]),
        ({"PatientName": "やまだ*"}, ["1.3"]),
        ({"PatientName": "yamada*"}, ["1.3"]),
        ({"PatientName": "Te*"}, ["1.2", "1.1"]),  # as short a beginning is looked for in another way
        ({"PatientName": "TES?^p*n"}, ["1.2", "1.1"]),
        ({"PatientName": "*person"}, ["1.2", "1.1"]),
        ({"PatientName": "tes%*"}, []),
        ({"PatientName": "山*"}, ["1.3"]),
        ({"PatientName": "山田^?郎*"}, ["1.3"]),
        ({"ModalitiesInStudy": "MR"}, ["1.1", "1.3"]),
        ({"ModalitiesInStudy": "MR,CT"}, ["1.2", "1.1", "1.3"]),
        ({"ModalitiesInStudy": "PT"}, []),
        ({"PatientName": "test*", "ModalitiesInStudy": "MR"}, ["1.1"]),
    ],
)
def test_studies_match(archive: Store, filters: dict[str, str], expected: list[str]) -> None:
    assert studies(archive, **filters) == expected


def test_names_come_back_as_unicode_in_their_groups(archive: Store) -> None:
    (study,) = archive.search.search_studies({"PatientID": "P/3"})
    groups = {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    assert study["00100010"]["Value"] == [groups]
    assert study["00080005"]["Value"] == ["ISO_IR 192"]


def test_series_and_instances_carry_what_is_above_them(archive: Store) -> None:
    (series,) = archive.search.search_series({"StudyInstanceUID": "1.1", "Modality": "CT"})
    assert (series["0020000E"]["Value"], series["00201209"]["Value"]) == (["1.1.1"], [3])
    assert series["00100020"]["Value"] == ["P1"]
    found = list(archive.search.search_instances({"SeriesInstanceUID": "1.1.1"}))
    assert [one["00200013"]["Value"][0] for one in found] == [1, 2, 3]
    assert {one["00080060"]["Value"][0] for one in found} == {"CT"}
    assert found[0]["00280010"] == {"vr": "US", "Value": [16]}
    (second,) = archive.search.search_instances({"SeriesInstanceUID": "1.1.1", "InstanceNumber": "2"})
    assert second["00080018"]["Value"] == ["1.1.1.2"]
    assert len(archive.search.search_instances({"InstanceNumber": "x"})) == 0
    assert len(archive.search.search_instances({"PatientID": "P1"})) == 5


def test_pages_do_not_overlap_and_end(archive: Store) -> None:
    pages = [archive.search.search_instances({}, limit=4, offset=offset) for offset in (0, 4, 8)]
    uids = [one["00080018"]["Value"][0] for page in pages for one in page]
    assert [len(page) for page in pages] == [4, 2, 0]
    assert [page.has_more for page in pages] == [True, False, False]
    assert len(set(uids)) == 6


@pytest.mark.parametrize(("batch_rows", "batch_characters"), [(1, 10**6), (4, 10**6), (500, 1), (500, 700)])
def test_batches_of_any_size_give_the_same_results_in_the_same_order(
    archive: Store, monkeypatch: pytest.MonkeyPatch, batch_rows: int, batch_characters: int
) -> None:
    def everything() -> list[object]:
        levels = (archive.search.search_studies, archive.search.search_series, archive.search.search_instances)
        return [list(level({})) for level in levels]

    expected = everything()
    monkeypatch.setattr(matches_module, "BATCH_ROWS", batch_rows)
    monkeypatch.setattr(matches_module, "BATCH_CHARACTERS", batch_characters)
    assert everything() == expected


def test_a_page_ends_where_its_answer_would_be_too_long(archive: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "MAX_ANSWER_CHARACTERS", 1800)
    uids: list[object] = []
    has_more = True
    while has_more:
        page = archive.search.search_instances({}, offset=len(uids))
        assert 0 < len(page) < 4
        uids += [one["00080018"]["Value"][0] for one in page]
        has_more = page.has_more
    assert uids == [one["00080018"]["Value"][0] for one in _all_instances(archive, monkeypatch)]


def test_a_row_that_is_longer_than_a_page_is_a_page(archive: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "MAX_ANSWER_CHARACTERS", 1)
    page = archive.search.search_instances({})
    assert (len(page), page.has_more) == (1, True)


def test_an_instance_that_is_deleted_between_query_and_reading_is_left_out(archive: Store) -> None:
    found = archive.search.search_instances({"StudyInstanceUID": "1.1"})
    with archive._database.write() as connection:
        connection.execute(sa.delete(instances).where(instances.c.sop_instance_uid == "1.1.1.2"))
    assert [one["00080018"]["Value"][0] for one in found] == ["1.1.1.1", "1.1.1.3", "1.1.2.1"]


def _all_instances(archive: Store, monkeypatch: pytest.MonkeyPatch) -> Matches:
    monkeypatch.undo()
    return archive.search.search_instances({})


def test_what_is_not_searchable_is_said(archive: Store) -> None:
    with pytest.raises(UnsupportedFilterError, match="study query: Modality cannot be searched"):
        archive.search.search_studies({"Modality": "CT"})
    assert "Modality" in archive.search.searchable["series"]


def test_objects_are_found_by_their_uids(archive: Store) -> None:
    assert len(archive.search.find_instances(study_instance_uid="1.1")) == 4
    (row,) = archive.search.find_instances(
        study_instance_uid="1.1", series_instance_uid="1.1.1", sop_instance_uid="1.1.1.2"
    )
    assert row.instance_number == 2
    assert archive.search.find_instances(study_instance_uid="1.2", sop_instance_uid="1.1.1.2") == ()
    with pytest.raises(ValueError, match="at least one UID"):
        archive.search.find_instances()


@pytest.mark.parametrize("transfer_syntax_uid", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("is_undefined_length", [False, True])
def test_series_are_found_by_the_request_that_they_answer(
    store: Store, transfer_syntax_uid: str, is_undefined_length: bool
) -> None:
    item = Dataset()
    item.ScheduledProcedureStepID, item.RequestedProcedureID = "SPS7", "Schädel 1"
    item.is_undefined_length_sequence_item = is_undefined_length
    sequence = Sequence([item])
    sequence.is_undefined_length = is_undefined_length
    sent = instance(
        transfer_syntax_uid=transfer_syntax_uid, SpecificCharacterSet="ISO_IR 100", RequestAttributesSequence=sequence
    )
    keep(store, sent)
    keep(store, instance(series="1.2.3.5", study="1.2.9"))
    for keyword, value in (("ScheduledProcedureStepID", "SPS?"), ("RequestedProcedureID", "Schädel 1")):
        (found,) = store.search.search_series({f"RequestAttributesSequence.{keyword}": value})
        assert found["0020000E"]["Value"] == ["1.2.3.4"]
        assert found["00400275"]["Value"][0]["00400009"] == {"vr": "SH", "Value": ["SPS7"]}
    assert not len(store.search.search_series({"RequestAttributesSequence.ScheduledProcedureStepID": "SPS8"}))


def test_a_name_in_the_middle_group_is_matched_whole(archive: Store) -> None:
    for name in ("山田^太郎", "*太郎", "山*郎", "?田^太郎", "やまだ^たろう", "*たろう"):
        assert studies(archive, PatientName=name) == ["1.3"], name
    for name in ("山田", "田^太郎", "山田^太", "*太", "やまだ"):
        assert studies(archive, PatientName=name) == [], name


def test_several_values_match_any(archive: Store) -> None:
    found = archive.search.search_studies({"StudyDate": ("20240105", "20250101-"), "PatientID": ("P1", "P/3")})
    assert [study["0020000D"]["Value"][0] for study in found] == ["1.2", "1.1"]


def test_a_damaged_request_keeps_no_instance_out(store: Store) -> None:
    item = Dataset()
    item.ScheduledProcedureStepID = "SPS7"
    sent = instance(RequestAttributesSequence=Sequence([item]))
    at = sent.encoded.index(b"SPS7") - 16  # the length of the item
    keep(store, replace(sent, encoded=sent.encoded[:at] + b"\xff" * 12 + sent.encoded[at + 12 :]))
    assert len(store.search.search_series({})) == 1
    assert not len(store.search.search_series({"RequestAttributesSequence.ScheduledProcedureStepID": "SPS7"}))
