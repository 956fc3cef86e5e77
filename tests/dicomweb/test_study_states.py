"""States and verdicts of studies over HTTP: in search results, as filters, and in the JSON API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from dicomweb_client import DICOMwebClient

from dicom_node.store import Store
from tests.dicomweb.serving import serve
from tests.factories import SyntheticSeries
from tests.judged_studies import REPORT, TERMS, judge_studies
from tests.new_store import NewStore

STATE, VERDICTS = "00991001", "00991002"


@dataclass(frozen=True)
class Judged:
    """Four studies, by state."""

    url: str
    store: Store
    blocked: SyntheticSeries
    cleared: SyntheticSeries
    held: SyntheticSeries
    open: SyntheticSeries

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.url + path, headers=headers, trust_env=False)


@pytest.fixture(scope="module")
def judged(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    with new_store(tmp_path_factory.mktemp("judged")) as store:
        series = judge_studies(store)
        with serve(store, terms=TERMS) as url:
            yield Judged(url=url, store=store, **series)


def uids(answer: httpx.Response) -> set[str]:
    if answer.status_code == 204:
        return set()
    assert answer.status_code == 200, answer.text
    return {study["0020000D"]["Value"][0] for study in answer.json()}


def test_a_search_shows_states_and_verdicts_in_a_private_block(judged: Judged) -> None:
    found = {study["0020000D"]["Value"][0]: study for study in judged.get("/dicom-web/studies").json()}
    for name in ("blocked", "cleared", "held", "open"):
        study = found[getattr(judged, name).study_instance_uid]
        assert study["00990010"] == {"vr": "LO", "Value": ["DICOMNODE"]}
        assert study[STATE] == {"vr": "CS", "Value": [name.upper()]}
    assert found[judged.blocked.study_instance_uid][VERDICTS] == {"vr": "CS", "Value": ["FACE_PRESENT"]}
    assert VERDICTS not in found[judged.open.study_instance_uid]
    (series,) = judged.get(f"/dicom-web/studies/{judged.cleared.study_instance_uid}/series").json()
    assert (series[STATE]["Value"], series[VERDICTS]["Value"]) == (["CLEARED"], ["DEFACED"])


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({STATE: "BLOCKED"}, {"blocked"}),
        ({STATE: "cleared,held"}, {"cleared", "held"}),
        ({STATE: "REVIEW"}, set()),
        ({VERDICTS: "DEFACED"}, {"cleared", "held"}),
        ({VERDICTS: "DEFACED", STATE: "CLEARED"}, {"cleared"}),
        ({VERDICTS: "FACE_PRESENT\\INDETERMINATE"}, {"blocked"}),
        ({STATE: "OPEN", "PatientID": "P1"}, {"open"}),
    ],
)
@pytest.mark.parametrize("level", ["studies", "series"])
def test_a_search_selects_by_state_and_verdict(
    judged: Judged, level: str, query: dict[str, str], names: set[str]
) -> None:
    answer = httpx.get(f"{judged.url}/dicom-web/{level}", params=query, trust_env=False)
    assert uids(answer) == {getattr(judged, name).study_instance_uid for name in names}


def test_instances_are_not_selected_by_state(judged: Judged) -> None:
    answer = judged.get(f"/dicom-web/instances?{STATE}=OPEN")
    assert (answer.status_code, answer.json()["code"]) == (400, "unsupported-filter")


def test_dicomweb_client_selects_by_state(judged: Judged) -> None:
    client = DICOMwebClient(f"{judged.url}/dicom-web")
    try:
        (study,) = client.search_for_studies(search_filters={STATE: "HELD"})
    finally:
        client._session.close()
    assert study["0020000D"]["Value"] == [judged.held.study_instance_uid]


def test_the_api_lists_studies_with_their_series(judged: Judged) -> None:
    answer = judged.get("/api/studies?state=blocked")
    assert answer.headers["content-type"] == "application/json"
    (study,) = answer.json()
    assert study["study_instance_uid"] == judged.blocked.study_instance_uid
    assert (study["state"], study["reason"]) == ("blocked", "1 of 1 series face present")
    (series,) = study["series"]
    assert (series["series_instance_uid"], series["verdicts"]) == (judged.blocked.series_instance_uid, ["face_present"])
    assert judged.get(f"/api/studies/{study['study_instance_uid']}").json() == study
    assert judged.get("/api/studies?state=review").json() == []


def test_the_api_is_paged_with_the_latest_arrival_first(judged: Judged) -> None:
    path, found = "/api/studies?limit=3", []
    while path:
        answer = judged.get(path)
        found += [study["state"] for study in answer.json()]
        link = answer.links.get("next", {}).get("url", "")
        path = link.removeprefix(judged.url)
    assert found == ["open", "held", "cleared", "blocked"]
    assert "next" not in judged.get("/api/studies?limit=4").links
    assert judged.get("/api/studies?state=held&limit=1").links == {}
    assert judged.get("/api/studies?limit=1152772732").status_code == 200


def test_the_api_shows_decisions(judged: Judged) -> None:
    (decision,) = judged.get(f"/api/studies/{judged.held.study_instance_uid}/history").json()
    assert (decision["kind"], decision["decided_by"], decision["reason"]) == ("hold", "Ann", "consent <withdrawn>")
    assert judged.get(f"/api/studies/{judged.open.study_instance_uid}/history").json() == []


def test_reports_come_as_json_or_text(judged: Judged) -> None:
    path = f"/api/series/{judged.blocked.series_instance_uid}/report"
    assert judged.get(path).json() == [REPORT]
    text = judged.get(path, Accept="text/plain")
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert "face_present" in text.text
    assert judged.get(path, Accept="application/json, text/plain;q=0.5").json() == [REPORT]
    assert judged.get(f"/api/series/{judged.open.series_instance_uid}/report").status_code == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/studies?state=fine", 400),
        ("/api/studies?limit=-1", 400),
        ("/api/studies?patient=x", 400),
        ("/api/studies/1.2.3", 404),
        ("/api/studies/..%2f", 400),
        ("/api/studies/a", 400),
        ("/api/studies/1.2.3/history", 404),
        ("/api/series/1.2.3/report", 404),
    ],
)
def test_what_the_api_does_not_have_is_a_problem(judged: Judged, path: str, status: int) -> None:
    answer = judged.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_nothing_can_be_changed_over_the_api(judged: Judged) -> None:
    path = f"{judged.url}/api/studies/{judged.open.study_instance_uid}"
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert httpx.request(method, path, trust_env=False).status_code == 405


def test_a_node_without_models_shows_every_study_that_is_not_held_as_open(judged: Judged) -> None:
    with serve(judged.store) as url:
        states = [study["state"] for study in httpx.get(f"{url}/api/studies", trust_env=False).json()]
    assert states == ["open", "held", "open", "open"]


def test_the_command_line_writes_the_same(judged: Judged) -> None:
    from dicom_node.gate.documents import study_document
    from dicom_node.json_values import plain

    uid = judged.cleared.study_instance_uid
    written = json.dumps(study_document(judged.store, TERMS, uid), default=plain)
    assert judged.get(f"/api/studies/{uid}").json() == json.loads(written)
