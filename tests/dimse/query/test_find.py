"""C-FIND by pynetdicom: the same sets as QIDO-RS, keys, character sets, refusals, cancelling, negotiation."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association

from tests.dimse.query.archive import Archive
from tests.dimse.query.asking import PATIENT_ROOT, STUDY_ROOT, asking, find, identifier, uids
from tests.store.sending import encode

PENDING, WITHOUT_SOME_KEYS, SUCCESS, REFUSED, CANNOT_PROCESS = 0xFF00, 0xFF01, 0x0000, 0xA900, 0xC000


@pytest.fixture(scope="module")
def asker(archive: Archive) -> Iterator[Association]:
    """One association for all queries that need no other."""
    with asking(archive.port) as association:
        yield association


@pytest.fixture(scope="module")
def relational(archive: Archive) -> Iterator[Association]:
    with asking(archive.port, extensions={STUDY_ROOT: b"\x01", PATIENT_ROOT: b"\x01"}) as association:
        yield association


FILTERS = (
    ("studies", "STUDY", {}),
    ("studies", "STUDY", {"StudyInstanceUID": "1.1\\1.3"}),
    ("studies", "STUDY", {"StudyDate": "20240101-20241231"}),
    ("studies", "STUDY", {"StudyDate": "20240106-"}),
    ("studies", "STUDY", {"StudyDate": "-20240105"}),
    ("studies", "STUDY", {"StudyTime": "1030-1030"}),
    ("studies", "STUDY", {"AccessionNumber": "A_*"}),
    ("studies", "STUDY", {"AccessionNumber": "A?"}),
    ("studies", "STUDY", {"AccessionNumber": "a*"}),
    ("studies", "STUDY", {"PatientID": "*"}),
    ("studies", "STUDY", {"PatientName": "TEST^person"}),
    ("studies", "STUDY", {"PatientName": "yama*"}),
    ("studies", "STUDY", {"PatientName": "*person"}),
    ("studies", "STUDY", {"PatientName": "nobody"}),
    ("studies", "STUDY", {"ModalitiesInStudy": "MR\\CT"}),
    ("studies", "STUDY", {"ModalitiesInStudy": "PT"}),
    ("studies", "STUDY", {"ReferringPhysicianName": "doe*", "PatientID": "P1"}),
    ("series", "SERIES", {"Modality": "CT"}),
    ("series", "SERIES", {"SeriesNumber": "8"}),
    ("series", "SERIES", {"BodyPartExamined": "H*"}),
    ("series", "SERIES", {"PatientName": "test*", "SeriesDescription": "*5mm"}),
    ("instances", "IMAGE", {"SeriesInstanceUID": "1.1.1"}),
    ("instances", "IMAGE", {"InstanceNumber": "2"}),
    ("instances", "IMAGE", {"PatientID": "M-1"}),
)
UNIQUE = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
TAGS = {"STUDY": "0020000D", "SERIES": "0020000E", "IMAGE": "00080018"}


@pytest.mark.parametrize(("searched", "level", "filters"), FILTERS)
def test_a_query_finds_what_qido_finds(
    archive: Archive, relational: Association, searched: str, level: str, filters: dict[str, str]
) -> None:
    by_qido = getattr(archive.store.search, f"search_{searched}")(filters)
    expected = [match[TAGS[level]]["Value"][0] for match in by_qido]
    last, matches, statuses = find(relational, identifier(level, **({UNIQUE[level]: ""} | filters)))
    assert uids(matches, UNIQUE[level]) == expected
    assert last.Status == SUCCESS
    assert statuses <= {PENDING}


def test_what_qido_returns_of_an_instance_is_returned(archive: Archive, relational: Association) -> None:
    (expected,) = archive.store.search.search_instances({"SOPInstanceUID": "1.1.1.2"})
    ds = identifier("IMAGE", SOPInstanceUID="1.1.1.2")
    for tag in expected:
        if tag not in ("00080005", "00080018"):
            ds.add_new(int(tag, 16), expected[tag]["vr"], None)
    _, (match,), _ = find(relational, ds)
    found = match.to_json_dict()
    for tag in ("00080052", "00080054"):
        del found[tag]
    del expected["00080005"]  # no attribute of this instance is beyond ASCII
    assert found == expected


@pytest.mark.parametrize("transfer_syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_both_encodings_answer_the_same(archive: Archive, transfer_syntax: str) -> None:
    with asking(archive.port, STUDY_ROOT, transfer_syntax=transfer_syntax) as association:
        ds = identifier("STUDY", PatientID="M-1", PatientName="", SpecificCharacterSet="ISO_IR 100")
        _, (match,), _ = find(association, ds)
    assert match.PatientName == "Müller^Jürgen"


@pytest.mark.parametrize(
    ("asked_in", "patient_id", "name", "answered_in"),
    [
        (None, "P1", "Test^Person", None),
        (None, "M-1", "Müller^Jürgen", "ISO_IR 192"),
        ("ISO_IR 100", "M-1", "Müller^Jürgen", "ISO_IR 100"),
        ("ISO_IR 100", "I-2", "Иванов^Пётр", "ISO_IR 192"),
        ("ISO_IR 144", "I-2", "Иванов^Пётр", "ISO_IR 144"),
        ("ISO_IR 192", "P/3", "Yamada^Tarou=山田^太郎=やまだ^たろう", "ISO_IR 192"),
        ("GB18030", "P/3", "Yamada^Tarou=山田^太郎=やまだ^たろう", "GB18030"),
        ("ISO_IR 13", "P/3", "Yamada^Tarou=山田^太郎=やまだ^たろう", "ISO_IR 192"),
        (["ISO 2022 IR 6", "ISO 2022 IR 87"], "P/3", "Yamada^Tarou=山田^太郎=やまだ^たろう", "ISO_IR 192"),
        ("ISO_IR 999", "M-1", "Müller^Jürgen", "ISO_IR 192"),
    ],
)
def test_names_come_in_the_set_of_the_query_if_it_has_their_letters(
    asker: Association, asked_in: object, patient_id: str, name: str, answered_in: str | None
) -> None:
    ds = identifier("STUDY", PatientID=patient_id, PatientName="")
    if asked_in is not None and asked_in != "ISO_IR 999":
        ds.SpecificCharacterSet = asked_in
    _, matches, _ = find(asker, ds)
    assert {str(match.PatientName) for match in matches} == {name}
    assert {match.get("SpecificCharacterSet") for match in matches} == {answered_in}


@pytest.mark.parametrize(
    ("character_set", "name", "expected"),
    [
        ("ISO_IR 100", "MÜLLER*", ["1.4"]),
        ("ISO_IR 192", "иванов^*", ["1.5"]),
        ("ISO_IR 144", "ИВАНОВ*", ["1.5"]),
        ("ISO_IR 192", "山田*", ["1.3"]),
    ],
)
def test_names_are_matched_in_the_set_of_the_query(
    asker: Association, character_set: str, name: str, expected: list[str]
) -> None:
    ds = identifier("STUDY", SpecificCharacterSet=character_set, PatientName=name)
    assert uids(find(asker, ds)[1]) == expected


def test_patients_have_their_numbers_and_the_latest_comes_first(asker: Association) -> None:
    ds = identifier(
        "PATIENT", PatientID="", PatientName="", NumberOfPatientRelatedStudies="", NumberOfPatientRelatedSeries="",
        NumberOfPatientRelatedInstances="",
    )  # fmt: skip
    last, matches, statuses = find(asker, ds, PATIENT_ROOT)
    assert uids(matches, "PatientID") == ["P1", "M-1", "I-2", "P/3"]
    numbers = [
        (one.NumberOfPatientRelatedStudies, one.NumberOfPatientRelatedSeries, one.NumberOfPatientRelatedInstances)
        for one in matches
    ]
    assert numbers == [(2, 3, 5), (1, 2, 2), (1, 1, 1), (1, 1, 1)]
    assert (last.Status, statuses) == (SUCCESS, {PENDING})
    ds.PatientName = "*ü*"
    ds.SpecificCharacterSet = "ISO_IR 192"
    assert uids(find(asker, ds, PATIENT_ROOT)[1], "PatientID") == ["M-1"]


def test_a_key_that_is_not_matched_here_is_left_out_and_each_match_says_so(asker: Association) -> None:
    ds = identifier("STUDY", PatientID="P/3", StudyInstanceUID="", InstitutionName="Elsewhere", PatientAge="")
    last, (match,), statuses = find(asker, ds)
    assert statuses == {WITHOUT_SOME_KEYS}
    assert last.Status == SUCCESS
    assert "InstitutionName" not in match
    assert "PatientAge" not in match
    _, _, statuses = find(asker, identifier("STUDY", PatientID="P/3", NumberOfStudyRelatedSeries="7"))
    assert statuses == {WITHOUT_SOME_KEYS}


@pytest.mark.parametrize(
    ("ds", "status", "named", "offending"),
    [
        (identifier("", PatientID="P1"), REFUSED, "QueryRetrieveLevel (0008,0052) is missing", 0x00080052),
        (identifier("PATIENT", PatientID="P1"), REFUSED, "QueryRetrieveLevel: expected STUDY, SERIES", 0x00080052),
        (identifier("FRAME", PatientID="P1"), REFUSED, "QueryRetrieveLevel: expected STUDY, SERIES", 0x00080052),
        (identifier("SERIES", SeriesInstanceUID=""), REFUSED, "StudyInstanceUID is missing", 0x0020000D),
        (identifier("IMAGE", StudyInstanceUID="1.1"), REFUSED, "SeriesInstanceUID is missing", 0x0020000E),
        (identifier("SERIES", StudyInstanceUID=["1.1", "1.2"]), REFUSED, "StudyInstanceUID: one value", 0x0020000D),
        (identifier("STUDY", PatientName="*" * 17), REFUSED, "PatientName: at most 16 asterisks", 0x00100010),
        (identifier("STUDY", AccessionNumber="x" * 300), REFUSED, "AccessionNumber: at most 256", 0x00080050),
        (identifier("STUDY", PatientID="a\x07b"), REFUSED, "PatientID: text without control", 0x00100020),
    ],
)  # fmt: skip
def test_an_identifier_that_cannot_be_used_is_refused_and_the_attribute_named(
    asker: Association, ds: Dataset, status: int, named: str, offending: int
) -> None:
    last, matches, _ = find(asker, ds)
    assert (last.Status, matches) == (status, [])
    assert last.ErrorComment.startswith(named)
    assert last.OffendingElement == offending


def test_relational_queries_need_no_keys_of_levels_above(relational: Association) -> None:
    _, matches, _ = find(relational, identifier("IMAGE", SOPInstanceUID="", Modality="MR", PatientName="yamada*"))
    assert uids(matches, "SOPInstanceUID") == ["1.3.1.1"]


def test_what_is_done_here_is_granted(archive: Archive) -> None:
    proposed = {STUDY_ROOT: bytes([1, 1, 1, 1, 1, 1, 1]), PATIENT_ROOT: b"\x00\x01"}
    with asking(archive.port, extensions=proposed) as association:
        granted = association.acceptor.sop_class_extended
    assert granted == {STUDY_ROOT: bytes([1, 1, 1, 1, 0, 0, 1]), PATIENT_ROOT: b"\x00\x01"}


def test_names_are_matched_fuzzily_where_that_was_agreed_on(archive: Archive, asker: Association) -> None:
    fuzzy = bytes([0, 0, 1])
    with asking(archive.port, extensions={STUDY_ROOT: fuzzy, PATIENT_ROOT: fuzzy}) as association:
        assert uids(find(association, identifier("STUDY", PatientName="jorg mueller"))[1]) == ["1.4"]
        ds = identifier("PATIENT", PatientID="", PatientName="parson test")
        assert uids(find(association, ds, PATIENT_ROOT)[1], "PatientID") == ["P1"]
    assert find(asker, identifier("STUDY", PatientName="jorg mueller"))[1] == []


def test_several_values_match_each_of_them(relational: Association) -> None:
    _, matches, statuses = find(relational, identifier("SERIES", SeriesInstanceUID="", Modality="MR\\PT"))
    assert uids(matches, "SeriesInstanceUID") == ["1.1.2", "1.3.1"]
    assert statuses == {PENDING}
    _, matches, _ = find(relational, identifier("STUDY", StudyInstanceUID="", AccessionNumber="A_2\\A9"))
    assert uids(matches) == ["1.2"]


def test_what_only_the_kept_values_say_is_matched_within_a_study(relational: Association) -> None:
    ds = identifier("IMAGE", StudyInstanceUID="1.1", SOPInstanceUID="", ImagesInAcquisition="")
    ds.add_new(0x00200012, "IS", "4")
    assert find(relational, ds)[1] == []
    del ds.StudyInstanceUID
    last, _, _ = find(relational, ds)
    assert (last.Status, last.OffendingElement) == (REFUSED, 0x00200012)
    assert last.ErrorComment == "AcquisitionNumber: matched only with a UID of its level or above"


HOSTILE = {
    "cut short": encode(identifier("STUDY", PatientID="P1"), ImplicitVRLittleEndian)[:-1],
    "no data set": b"\xff" * 40,
    "endless length": struct.pack("<HHI", 0x0010, 0x0020, 0xFFFFFFFF) + b"P1",
    "nested": struct.pack("<HHI", 0x0040, 0x0275, 0xFFFFFFFF) * 1
    + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) * 40,
    "thousands of elements": b"".join(struct.pack("<HHI", 0x0011, number, 0) for number in range(0x1000, 0x2000)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_identifier_is_refused_and_the_association_stays_usable(asker: Association, name: str) -> None:
    ds = _Raw(HOSTILE[name])
    answers = list(asker.send_c_find(ds, STUDY_ROOT))  # type: ignore[arg-type]
    assert [answer.Status for answer, _ in answers] == [CANNOT_PROCESS]
    assert uids(find(asker, identifier("STUDY", PatientID="P/3"))[1]) == ["1.3"]


class _Raw(Dataset):
    """A data set that pynetdicom sends as these bytes."""

    def __init__(self, encoded: bytes) -> None:
        super().__init__()
        self.encoded = encoded


@pytest.fixture(autouse=True)
def _send_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    from pynetdicom import association as module

    plain = module.encode

    def encode_or_raw(ds: Dataset, *options: bool) -> bytes | None:
        return ds.encoded if isinstance(ds, _Raw) else plain(ds, *options)

    monkeypatch.setattr(module, "encode", encode_or_raw)


@pytest.mark.parametrize(
    ("granted", "zone", "expected"),
    [
        (b"\0\0", "", ["1.2"]),
        (b"\0\1", "", ["1.2", "1.4"]),
        (b"\0\1\0\0", "+0100", ["1.2", "1.4"]),  # a time zone that was not agreed on says nothing
        (b"\0\1\0\1", "+0100", ["1.2", "1.4"]),  # studies without an offset are in the zone of the query
    ],
)
def test_ranges_of_date_and_time_are_one_if_that_was_agreed_on(
    archive: Archive, granted: bytes, zone: str, expected: list[str]
) -> None:
    keys = {"StudyDate": "20240105-20250220", "StudyTime": "1100-1230", "StudyInstanceUID": ""}
    keys |= {"TimezoneOffsetFromUTC": zone} if zone else {}
    with asking(archive.port, extensions={STUDY_ROOT: granted}) as association:
        last, matches, _ = find(association, identifier("STUDY", **keys))
    assert last.Status == 0x0000
    assert sorted(uids(matches)) == expected


def test_a_time_zone_that_is_none_is_refused(archive: Archive) -> None:
    with asking(archive.port, extensions={STUDY_ROOT: b"\0\1\0\1"}) as association:
        last, matches, _ = find(association, identifier("STUDY", StudyDate="20240105", TimezoneOffsetFromUTC="+9999"))
    assert (last.Status, matches) == (0xA900, [])
