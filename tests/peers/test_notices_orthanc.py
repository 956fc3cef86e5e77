"""The state of a study in real Orthancs: without labels (1.10, Debian 12) and with them (1.12, Debian 13)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from dicom_node.peers import StudyNotice, tell
from dicom_node.peers.errors import (
    HttpFailedForNowError,
    MetadataUnknownError,
    PeerUnreachableError,
    StudyNotThereError,
    TokenMissingError,
)
from dicom_node.settings import OrthancTarget
from tests.factories import SyntheticSeries, ct_series
from tests.labelled_orthanc import start_labelled_orthanc
from tests.peer_servers import OrthancServer, _spawn, _stop, _wait_until, free_port, start_orthanc, tool
from tests.recording_proxy import RecordingProxy, start_recording_proxy

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
NAMED = {"UserMetadata": {"defacing-state": 5000}}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    with start_orthanc(tmp_path_factory.mktemp("plain"), settings=NAMED) as server:
        yield server


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    with start_labelled_orthanc(tmp_path_factory.mktemp("labelled"), NAMED) as server:
        yield server


@pytest.fixture(params=[pytest.param("plain", marks=pytest.mark.peers), "labelled"])
def orthanc(request: pytest.FixtureRequest) -> OrthancServer:
    server: OrthancServer = request.getfixturevalue(request.param)
    return server


def upload(orthanc: OrthancServer, series: SyntheticSeries) -> str:
    """Put a series into Orthanc and return its Study Instance UID."""
    for instance in series:
        httpx.post(f"{orthanc.url}/instances", content=instance.part10, trust_env=False).raise_for_status()
    return str(next(iter(series)).dataset().StudyInstanceUID)


def notice(uid: str, state: str) -> StudyNotice:
    return StudyNotice(uid, 1, state, "rules", {"defaced": 1}, "f" * 64, datetime(2026, 1, 1, tzinfo=UTC))


def target(url: str, **settings: Any) -> OrthancTarget:
    return OrthancTarget(name="pacs", url=url, **settings)


def show(url: str, uid: str, state: str, **settings: Any) -> None:
    tell(target(url, **settings), notice(uid, state), node_ae_title="NODE")


def studies(orthanc: OrthancServer, uid: str) -> list[str]:
    hits = httpx.post(f"{orthanc.url}/tools/lookup", content=uid, trust_env=False).json()
    return [hit["Path"] for hit in hits if hit["Type"] == "Study"]


def shown(orthanc: OrthancServer, uid: str, metadata: str = "4410") -> list[str | None]:
    """The state that each study with the UID shows."""
    answers = [httpx.get(f"{orthanc.url}{path}/metadata/{metadata}", trust_env=False) for path in studies(orthanc, uid)]
    return [answer.text if answer.status_code == 200 else None for answer in answers]


def labels(orthanc: OrthancServer, uid: str) -> list[list[str]]:
    return [
        httpx.get(f"{orthanc.url}{path}/labels", trust_env=False).raise_for_status().json()
        for path in studies(orthanc, uid)
    ]


def test_a_state_is_shown_replaced_and_taken_away(orthanc: OrthancServer) -> None:
    uid = upload(orthanc, ct_series(1, rows=16, columns=16, seed="shown"))
    for state in ("cleared", "cleared", "blocked", "review"):
        show(orthanc.url, uid, state)
        assert shown(orthanc, uid) == [state]
    show(orthanc.url, uid, "open")
    assert shown(orthanc, uid) == [None]
    show(orthanc.url, uid, "cleared")
    show(orthanc.url, uid, "held")
    assert shown(orthanc, uid) == [None]
    show(orthanc.url, uid, "open")  # nothing is shown that could be taken away


def test_a_registered_name_holds_the_state_and_an_unknown_one_is_named(orthanc: OrthancServer) -> None:
    uid = upload(orthanc, ct_series(1, rows=16, columns=16, seed="named"))
    show(orthanc.url, uid, "review", metadata="defacing-state")
    assert shown(orthanc, uid, "defacing-state") == shown(orthanc, uid, "5000") == ["review"]
    with pytest.raises(MetadataUnknownError, match="'unregistered' is not in Orthanc's UserMetadata"):
        show(orthanc.url, uid, "review", metadata="unregistered")


def test_a_study_that_is_not_there_is_told_later_and_shows_nothing_until_then(orthanc: OrthancServer) -> None:
    series = ct_series(1, rows=16, columns=16, seed="late")
    uid = str(next(iter(series)).dataset().StudyInstanceUID)
    with pytest.raises(StudyNotThereError, match=f"has no study {uid}"):
        show(orthanc.url, uid, "cleared")
    show(orthanc.url, uid, "open")
    upload(orthanc, series)
    show(orthanc.url, uid, "cleared")
    assert shown(orthanc, uid) == ["cleared"]


def test_every_study_with_the_uid_shows_the_state(orthanc: OrthancServer) -> None:
    series = ct_series(1, rows=16, columns=16, seed="twice")
    uid = upload(orthanc, series)
    ds = next(iter(series)).dataset()
    ds.PatientID, ds.SOPInstanceUID = "another", f"{ds.SOPInstanceUID}.1"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    httpx.post(f"{orthanc.url}/instances", content=buffer.getvalue(), trust_env=False).raise_for_status()
    show(orthanc.url, uid, "blocked")
    assert shown(orthanc, uid) == ["blocked", "blocked"]
    show(orthanc.url, uid, "open")
    assert shown(orthanc, uid) == [None, None]


def test_what_fails_in_between_leaves_no_earlier_state(orthanc: OrthancServer) -> None:
    uid = upload(orthanc, ct_series(1, rows=16, columns=16, seed="between"))
    show(orthanc.url, uid, "cleared")
    with start_recording_proxy(orthanc.url) as proxy:
        proxy.refuse = lambda method, path: 500 if method == "PUT" and "/metadata/" in path else None
        with pytest.raises(HttpFailedForNowError, match="HTTP 500"):
            show(proxy.url, uid, "blocked")
        assert shown(orthanc, uid) == [None]
        proxy.refuse = lambda _method, _path: None
        show(proxy.url, uid, "blocked")
    assert shown(orthanc, uid) == ["blocked"]


def test_a_label_that_cannot_be_set_leaves_no_earlier_one(labelled: OrthancServer) -> None:
    uid = upload(labelled, ct_series(1, rows=16, columns=16, seed="label between"))
    show(labelled.url, uid, "cleared")
    with start_recording_proxy(labelled.url) as proxy:
        proxy.refuse = lambda method, path: 500 if method == "PUT" and "/labels/" in path else None
        with pytest.raises(HttpFailedForNowError, match="HTTP 500"):
            show(proxy.url, uid, "blocked")
    assert labels(labelled, uid) == [[]]


@pytest.mark.peers
def test_without_labels_no_label_is_asked_for_and_no_study_selected_by_one(plain: OrthancServer) -> None:
    uid = upload(plain, ct_series(1, rows=16, columns=16, seed="no labels"))
    with start_recording_proxy(plain.url) as proxy:
        for state in ("cleared", "blocked", "open"):
            show(proxy.url, uid, state)
        _only_known_calls(proxy)
        assert not [path for path in proxy.paths() if "label" in path]


def test_with_labels_one_of_ours_is_set_and_those_of_others_stay(labelled: OrthancServer) -> None:
    uid = upload(labelled, ct_series(1, rows=16, columns=16, seed="labels"))
    (path,) = studies(labelled, uid)
    for other in ("urgent", "other-cleared"):
        httpx.put(f"{labelled.url}{path}/labels/{other}", trust_env=False).raise_for_status()
    show(labelled.url, uid, "cleared")
    assert labels(labelled, uid) == [["dicom-node-cleared", "other-cleared", "urgent"]]
    with start_recording_proxy(labelled.url) as proxy:
        show(proxy.url, uid, "review")
        _only_known_calls(proxy)
        changes = [(method, asked.rpartition("/")[2]) for method, asked in proxy.requests if "/labels/" in asked]
        assert changes == [("DELETE", "dicom-node-cleared"), ("PUT", "dicom-node-review")]
    find = {"Level": "Study", "Query": {}, "Labels": ["dicom-node-review"]}
    assert len(httpx.post(f"{labelled.url}/tools/find", json=find, trust_env=False).json()) == 1
    show(labelled.url, uid, "held")
    assert labels(labelled, uid) == [["other-cleared", "urgent"]]


@pytest.mark.peers
def test_an_orthanc_that_checks_revisions_is_told_which_one_is_replaced(tmp_path: Path) -> None:
    with start_orthanc(tmp_path, settings={"CheckRevisions": True}) as orthanc:
        uid = upload(orthanc, ct_series(1, rows=16, columns=16))
        for state in ("cleared", "blocked", "open", "cleared"):
            show(orthanc.url, uid, state)
        assert shown(orthanc, uid) == ["cleared"]


@pytest.mark.peers
def test_a_password_is_read_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start_orthanc(tmp_path) as open_orthanc:
        uid = upload(open_orthanc, ct_series(1, rows=16, columns=16))
        open_orthanc.process.terminate()
        open_orthanc.process.wait(10)
        secured = {"AuthenticationEnabled": True, "RegisteredUsers": {"node": "right"}}
        with _secured_orthanc(tmp_path, secured) as url:
            with pytest.raises(TokenMissingError, match="PACS_PASSWORD"):
                show(url, uid, "cleared", user="node", password_env="PACS_PASSWORD")
            monkeypatch.setenv("PACS_PASSWORD", "wrong")
            with pytest.raises(HttpFailedForNowError, match="HTTP 401"):
                show(url, uid, "cleared", user="node", password_env="PACS_PASSWORD")
            monkeypatch.setenv("PACS_PASSWORD", "right")
            show(url, uid, "cleared", user="node", password_env="PACS_PASSWORD")


def test_an_orthanc_that_is_away_is_unreachable() -> None:
    with pytest.raises(PeerUnreachableError, match="peer pacs: ConnectError"):
        show(f"http://127.0.0.1:{free_port()}", "1.2.3", "open")


def _only_known_calls(proxy: RecordingProxy) -> None:
    """What the node asks of an Orthanc; above all nothing that selects studies by a label or metadata."""
    for _, path in proxy.requests:
        assert path in ("/system", "/tools/lookup") or path.startswith("/studies/"), path


@contextmanager
def _secured_orthanc(folder: Path, settings: dict[str, Any]) -> Iterator[str]:
    """Orthanc on the same storage, which wants a password; readiness is an answer of any status."""
    configuration = json.loads((folder / "orthanc.json").read_text()) | settings
    (folder / "secured.json").write_text(json.dumps(configuration))
    process = _spawn([tool("Orthanc"), str(folder / "secured.json")], folder / "secured.log", {})
    url = f"http://127.0.0.1:{configuration['HttpPort']}"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/system", timeout=2.0, trust_env=False).status_code == httpx.codes.UNAUTHORIZED
        except httpx.HTTPError:
            return False

    try:
        assert _wait_until(answers, process)
        yield url
    finally:
        _stop(process)
