"""QIDO-RS as a client meets it."""

from __future__ import annotations

import json
import tracemalloc
import warnings
from pathlib import Path
from xml.etree import ElementTree as ET

import httpx
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.store.index import search
from dicom_node.store.schema import instances
from tests.arrivals import receive
from tests.dicomweb.conftest import Archive
from tests.dicomweb.serving import serve
from tests.factories import ct_series
from tests.new_store import NewStore

STUDY_UID, SERIES_UID, INSTANCE_UID = "0020000D", "0020000E", "00080018"

MODEL = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"


def values(answer: httpx.Response, tag: str) -> list[object]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/dicom+json"
    return [result[tag]["Value"][0] for result in answer.json()]


def test_studies_name_their_patient_counts_and_where_they_are(archive: Archive, http: httpx.Client) -> None:
    uid = archive.ct.study_instance_uid
    (study,) = http.get("/studies", params={"StudyInstanceUID": uid}).json()
    assert study["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Phantom^Åsa"}]}
    assert study["00080061"]["Value"] == ["CT", "MR"]
    assert (study["00201206"]["Value"], study["00201208"]["Value"]) == ([2], [7])
    assert study["00081190"]["Value"] == [f"{archive.root}/studies/{uid}"]


def test_series_of_a_study_are_found_below_it(archive: Archive, http: httpx.Client) -> None:
    uid = archive.ct.study_instance_uid
    found = http.get(f"/studies/{uid}/series")
    assert set(values(found, SERIES_UID)) == {archive.ct.series_instance_uid, archive.mr.series_instance_uid}
    assert set(values(found, "00081190")) == {
        f"{archive.root}/studies/{uid}/series/{series.series_instance_uid}" for series in (archive.ct, archive.mr)
    }


@pytest.mark.parametrize("path", ["/studies/{study}/instances", "/studies/{study}/series/{series}/instances"])
def test_instances_are_found_below_study_and_series(archive: Archive, http: httpx.Client, path: str) -> None:
    uids = {"study": archive.ct.study_instance_uid, "series": archive.ct.series_instance_uid}
    found = values(http.get(path.format(**uids), params={"Modality": "CT"}), INSTANCE_UID)
    assert found == [ds.SOPInstanceUID for ds in archive.ct.datasets()]


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/studies", "PatientName=Zo%C3%AB*", {"compressed", "implicit"}),
        ("/studies", "00100010=zo%C3%AB*", {"compressed", "implicit"}),
        ("/studies", "PatientID=P%3F&StudyDate=20210101-", {"compressed", "implicit"}),
        ("/studies", "StudyDate=20211231&ModalitiesInStudy=MR", set()),
        ("/series", "Modality=MR", {"mr"}),
        ("/instances", "InstanceNumber=4", {"ct"}),
        ("/studies", "PatientID=&StudyDate=-20201231&ModalitiesInStudy=MR", {"mr"}),
    ],
)
def test_filters_by_keyword_and_tag_match(
    archive: Archive, http: httpx.Client, path: str, query: str, expected: set[str]
) -> None:
    answer = http.get(f"{path}?{query}")
    found = set(values(answer, STUDY_UID)) if answer.status_code == 200 else set()
    assert found == {getattr(archive, name).study_instance_uid for name in expected}


def test_a_list_of_uids_matches_each_of_them(archive: Archive, http: httpx.Client) -> None:
    uids = [archive.compressed.study_instance_uid, archive.implicit.study_instance_uid]
    assert set(values(http.get("/studies", params={"0020000D": ",".join(uids)}), STUDY_UID)) == set(uids)


def test_a_list_of_uids_may_be_long(archive: Archive, http: httpx.Client) -> None:
    uids = [archive.ct.study_instance_uid, *(f"2.25.{'1' * 30}{number}" for number in range(255))]
    assert values(http.get("/studies", params={"StudyInstanceUID": ",".join(uids)}), STUDY_UID) == uids[:1]


def test_an_ideographic_space_is_text(http: httpx.Client) -> None:
    assert http.get("/studies", params={"PatientName": "山田\u3000太郎"}).status_code == 204


def test_nothing_found_is_an_empty_answer(http: httpx.Client) -> None:
    answer = http.get("/studies", params={"PatientID": "nobody"})
    assert (answer.status_code, answer.content) == (204, b"")


def test_pages_cover_everything_once_and_say_that_there_is_more(archive: Archive, http: httpx.Client) -> None:
    path = f"/studies/{archive.ct.study_instance_uid}/instances"
    pages = [http.get(path, params={"limit": 3, "offset": offset}) for offset in (0, 3, 6)]
    assert ["additional results" in page.headers.get("warning", "") for page in pages] == [True, True, False]
    found = [uid for page in pages for uid in values(page, INSTANCE_UID)]
    assert len(found) == len(set(found)) == 7


def uids(answer: httpx.Response, tag: str = "0020000D") -> list[str]:
    assert answer.status_code in {200, 204}, answer.text
    return [one[tag]["Value"][0] for one in answer.json()] if answer.content else []


def test_names_are_matched_fuzzily_where_that_is_asked_for(archive: Archive, http: httpx.Client) -> None:
    for name in ("zoe", "ann zoe", "Zoé^Ann", "zoo an"):
        answer = http.get("/studies", params={"PatientName": name, "fuzzymatching": "true"})
        assert set(uids(answer)) == {archive.compressed.study_instance_uid, archive.implicit.study_instance_uid}, name
        assert "warning" not in answer.headers
        assert uids(http.get("/studies", params={"PatientName": name})) == []
    assert uids(http.get("/studies", params={"PatientName": "zoe bob", "fuzzymatching": "true"})) == []


def test_a_parameter_that_is_repeated_matches_either_value(archive: Archive, http: httpx.Client) -> None:
    both = [archive.ct.study_instance_uid, archive.implicit.study_instance_uid]
    assert set(uids(http.get("/studies", params={"StudyInstanceUID": both}))) == set(both)
    found = http.get("/series", params={"Modality": ["MR", "XA"]})
    assert uids(found, "0020000E") == [archive.mr.series_instance_uid]
    assert len(uids(http.get("/studies?PatientID=P2&00100020=nobody"))) == 2
    assert http.get("/studies", params={"PatientID": ["x"] * 17}).status_code == 400


def test_what_is_no_attribute_is_ignored_and_named(http: httpx.Client) -> None:
    answer = http.get("/studies", params={"_dc": "17", "orderby": "x", "<b>": "y", "includefield": "nonsense"})
    assert answer.status_code == 200
    for name in ("_dc", "orderby", "a parameter", "nonsense"):
        assert f"Ignored, because it is no DICOM attribute: {name}" in answer.headers["warning"]


def test_attributes_without_a_column_are_searched_too(archive: Archive, http: httpx.Client) -> None:
    ds = archive.ct[0].dataset()
    found = http.get("/series", params={"Manufacturer": f"{str(ds.Manufacturer)[:3]}*", "Modality": "CT"})
    assert archive.ct.series_instance_uid in uids(found, "0020000E")
    assert uids(http.get("/series", params={"Manufacturer": "Nobody"})) == []
    study = f"/studies/{ds.StudyInstanceUID}/instances"
    assert len(uids(http.get(study, params={"Rows": "16"}), "00080018")) == 4
    assert uids(http.get(study, params={"Rows": "17"})) == []
    refused = http.get("/instances", params={"Rows": "16"})
    assert (refused.status_code, refused.json()["code"]) == (400, "unsupported-filter")


def test_attributes_that_the_index_lacks_come_from_the_metadata(archive: Archive, http: httpx.Client) -> None:
    ds = archive.ct[0].dataset()
    path = f"/studies/{ds.StudyInstanceUID}/series"
    plain = http.get(path, params={"SeriesInstanceUID": ds.SeriesInstanceUID}).json()[0]
    assert not {"00280030", "00281053"} & plain.keys()
    for fields in ({"includefield": "PixelSpacing,00281053"}, {"includefield": ["00280030", "RescaleSlope"]}):
        (found,) = http.get(path, params={"SeriesInstanceUID": ds.SeriesInstanceUID, **fields}).json()
        assert found["00280030"]["Value"] == [float(value) for value in ds.PixelSpacing]
        assert found["00281053"]["Value"] == [1]
        assert {tag: found[tag] for tag in plain} == plain
    instances = http.get(f"{path}/{ds.SeriesInstanceUID}/instances", params={"includefield": "all"}).json()
    (metadata, *_) = http.get(f"{path}/{ds.SeriesInstanceUID}/metadata").json()
    assert metadata.keys() - instances[0].keys() == {"7FE00010"}, "all but bulk data"


def test_more_than_any_index_holds_is_all_of_it(http: httpx.Client) -> None:
    all_of_it = http.get("/studies").json()
    assert http.get("/studies", params={"limit": 9 * 10**30}).json() == all_of_it
    assert http.get("/studies", params={"offset": 9 * 10**30}).status_code in (200, 204)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/studies?Nonsense=1", "bad-request"),
        ("/studies?PatinetName=x", "bad-request"),
        ("/studies?PixelSpacing=1", "unsupported-filter"),
        ("/studies?SeriesInstanceUID=1.2", "unsupported-filter"),
        ("/studies?00400275.00400009=1", "unsupported-filter"),
        ("/studies?99990001=1", "bad-request"),
        ("/studies?limit=-1", "bad-request"),
        ("/studies?limit=many", "bad-request"),
        ("/studies?offset=1e3", "bad-request"),
        ("/studies/1.2.3/series?StudyInstanceUID=1.2.4", "bad-request"),
        ("/studies/1..2/series", "bad-request"),
        ("/studies/..%2f..%2fetc/series", "not-found"),
        (f"/studies/{'1' * 65}/series", "bad-request"),
        ("/studies?PatientID=%00", "bad-request"),
        (f"/studies?ModalitiesInStudy={',' * 5000}", "bad-request"),  # was a condition too deep for SQLite
        (f"/studies?PatientName={'*a' * 17}", "bad-request"),
        (f"/studies?PatientName={'a' * 257}", "bad-request"),
    ],
)
def test_what_cannot_be_searched_is_a_problem_with_a_code(http: httpx.Client, path: str, code: str) -> None:
    answer = http.get(path)
    assert answer.status_code == (404 if code == "not-found" else 400)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("StudyDate", "2026-01-01", "YYYYMMDD"),  # a date as PS3.5 6.2 does not write it
        ("00080020", "20260101-2026-02-01", "YYYYMMDD"),
        ("StudyDate", "202601", "YYYYMMDD"),
        ("StudyDate", "2026*", "YYYYMMDD"),  # dates have no wildcards (PS3.4 C.2.2.2.4)
        ("StudyDate", "20260101,20260102", "YYYYMMDD"),
        ("PatientBirthDate", "01.02.1950", "YYYYMMDD"),
        ("StudyTime", "10h30", "HHMMSS"),
        ("StudyTime", "1030-1130-1230", "HHMMSS"),
    ],
)
def test_a_date_or_time_in_no_form_of_dicom_is_refused_by_name(
    http: httpx.Client, keyword: str, value: str, expected: str
) -> None:
    answer = http.get("/studies", params={keyword: value})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")
    named = {"00080020": "StudyDate"}.get(keyword, keyword)
    assert all(word in answer.json()["detail"] for word in (named, value, expected, "range"))


@pytest.mark.parametrize(
    "query",
    [
        "StudyDate=20211231",
        "StudyDate=2021.12.31",  # the form of ACR-NEMA (PS3.5 6.2, DA)
        "StudyDate=2021.12.01-2021.12.31",
        "StudyDate=20211201-20211299",  # every day of a month, as clients write it
        "StudyDate=20211231-&StudyTime=10:00-10:30",
        "StudyDate=20211231%20",  # padding
        "StudyDate=*&StudyTime=",
        "StudyTime=101112-101112.5",
        "StudyTime=10:11:12",
    ],
)
def test_dates_and_times_in_forms_of_dicom_old_and_new_match(archive: Archive, http: httpx.Client, query: str) -> None:
    answer = http.get(f"/studies?{query}&StudyInstanceUID={archive.compressed.study_instance_uid}")
    assert uids(answer) == [archive.compressed.study_instance_uid]


def test_dates_that_are_kept_in_the_old_form_are_found_by_it(new_store: NewStore, tmp_path: Path) -> None:
    def edit(ds: Dataset, _: int) -> None:
        ds.StudyDate = "2021.12.31"

    with warnings.catch_warnings(), new_store(tmp_path) as store, serve(store) as url:
        warnings.simplefilter("ignore")  # pydicom says that it is none of today's dates
        series = ct_series(1, edit=edit)
        receive(store, series)
        with httpx.Client(base_url=f"{url}/dicom-web", trust_env=False, timeout=60) as http:
            assert uids(http.get("/studies", params={"StudyDate": "2021.12.31"})) == [series.study_instance_uid]


def test_results_and_metadata_come_as_xml_for_who_takes_only_that(archive: Archive, http: httpx.Client) -> None:
    accept = {"Accept": 'multipart/related; type="application/dicom+xml"'}
    for path, tag in (
        ("/studies", "0020000D"),
        (f"/studies/{archive.hostile.study_instance_uid}/metadata", "00080018"),
    ):
        answer, expected = http.get(path, headers=accept), http.get(path).json()
        boundary = answer.headers["content-type"].partition("boundary=")[2].encode()
        documents = [part.partition(b"\r\n\r\n")[2] for part in answer.content.split(b"--" + boundary)[1:-1]]
        models = [ET.fromstring(document) for document in documents]
        values = [model.findtext(f"{MODEL}DicomAttribute[@tag='{tag}']/{MODEL}Value") for model in models]
        assert values == [one[tag]["Value"][0] for one in expected]
        names = [model.find(f"{MODEL}DicomAttribute[@tag='00100010']/{MODEL}PersonName") for model in models]
        assert [name.findtext(f"{MODEL}Alphabetic/{MODEL}FamilyName") for name in names if name is not None] == [
            one["00100010"]["Value"][0]["Alphabetic"].split("^")[0] for one in expected
        ]
    assert http.get("/studies", headers={"Accept": "text/html"}).status_code == 406


def test_plain_json_is_answered_as_such(http: httpx.Client) -> None:
    answer = http.get("/studies", headers={"Accept": "application/json"})
    assert answer.headers["content-type"] == "application/json"
    assert http.get("/studies?accept=application/dicom%2Bjson", headers={"Accept": "text/html"}).status_code == 200


def test_answers_are_compressed_for_those_who_take_that(http: httpx.Client) -> None:
    plain = http.get("/instances", headers={"Accept-Encoding": "identity, gzip;q=0"})
    packed = http.get("/instances", headers={"Accept-Encoding": "br, gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert packed.json() == plain.json()


def test_a_description_of_4_mb_is_not_answered_for_every_instance(new_store: NewStore, tmp_path: Path) -> None:
    def edit(ds: Dataset, _: int) -> None:
        ds.StudyDescription = "d" * 4_000_000

    with warnings.catch_warnings(), new_store(tmp_path) as store, serve(store) as url:
        warnings.simplefilter("ignore")  # pydicom says that it is too long
        series = ct_series(3, transfer_syntax_uid=ImplicitVRLittleEndian, edit=edit)
        receive(store, series)
        answer = httpx.get(
            f"{url}/dicom-web/instances", headers={"Accept-Encoding": "identity"}, trust_env=False, timeout=60
        )
        assert len(answer.content) < 8_000
        stored = httpx.get(f"{url}/dicom-web/studies/{series.study_instance_uid}", trust_env=False, timeout=60)
        assert stored.content.count(b"d" * 4_000_000) == 3  # the instances have all of it


def test_a_long_answer_needs_little_memory(new_store: NewStore, tmp_path: Path) -> None:
    n_rows = 2500
    with new_store(tmp_path) as store:
        receive(store, ct_series(1))
        with store._database.write() as connection:
            row = connection.execute(sa.select(instances)).mappings().one()
            attributes = json.loads(row["attributes"]) | {"00080008": {"vr": "CS", "Value": ["X" * 64] * 100}}
            more = [
                {**row, "id": number, "sop_instance_uid": f"2.25.{number}"} | {"attributes": json.dumps(attributes)}
                for number in range(2, n_rows + 1)
            ]
            connection.execute(sa.insert(instances), more)
            del more
        with serve(store) as url:
            tracemalloc.start()
            try:
                with httpx.stream("GET", f"{url}/dicom-web/instances", trust_env=False, timeout=60) as answer:
                    n_bytes = sum(len(chunk) for chunk in answer.iter_bytes())
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert n_bytes > n_rows * 6000
    assert peak < 16 * 2**20  # was 5 times the answer


def test_an_answer_that_is_too_long_is_cut_and_says_so(
    archive: Archive, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_ANSWER_CHARACTERS", 2000)
    page = http.get("/instances")
    assert "additional results" in page.headers["warning"]
    assert 0 < len(page.json()) < 7
