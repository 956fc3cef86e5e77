"""State and verdicts of studies as keys of a query, in a private block."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association

from dicom_node.dimse import DimseServer
from dicom_node.dimse.query.policy import QueryRetrieve
from dicom_node.settings import DimsePeer, DimseSettings, QueryRetrieveSettings
from tests.dimse.query.archive import AE_TITLE
from tests.dimse.query.asking import STUDY_ROOT, asking, find, identifier, uids
from tests.factories import SyntheticSeries
from tests.judged_studies import TERMS, judge_studies
from tests.new_store import NewStore
from tests.peer_servers import run_tool

CREATOR = "DICOMNODE"
PENDING, WITHOUT_SOME_KEYS = 0xFF00, 0xFF01


@pytest.fixture(scope="module")
def judged(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, dict[str, str]]]:
    """Port of a node, and the studies of it by their state."""
    peers = [DimsePeer(name="both", ae_title="BOTH", host="127.0.0.1", port=104)]
    policy = QueryRetrieve(AE_TITLE, QueryRetrieveSettings(), peers, lambda: TERMS.for_index)
    settings = DimseSettings(host="127.0.0.1", port=0)
    with (
        new_store(tmp_path_factory.mktemp("judged")) as store,
        DimseServer(store, settings, ae_title=AE_TITLE, query_retrieve=policy) as server,
    ):
        series: dict[str, SyntheticSeries] = judge_studies(store)
        yield server.port, {state: one.study_instance_uid for state, one in series.items()}


@pytest.fixture(scope="module", params=[ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def asker(judged: tuple[int, dict[str, str]], request: pytest.FixtureRequest) -> Iterator[Association]:
    with asking(judged[0], STUDY_ROOT, transfer_syntax=request.param) as association:
        yield association


def with_block(ds: Dataset, block: int, *, state: str | None = None, verdict: str | None = None) -> Dataset:
    """Add our private keys in a block of group 0099."""
    private = ds.private_block(0x0099, CREATOR, create=True) if block == 0x10 else None
    if private is None:
        ds.add_new(0x00990000 | block, "LO", CREATOR)
    if state is not None:
        ds.add_new(0x00990000 | block << 8 | 1, "CS", state)
    if verdict is not None:
        ds.add_new(0x00990000 | block << 8 | 2, "CS", verdict)
    return ds


@pytest.mark.parametrize("block", [0x10, 0x42])
@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("CLEARED", ["cleared"]),
        ("BLOCKED", ["blocked"]),
        ("OPEN\\HELD", ["held", "open"]),
        ("REVIEW", []),
        ("", ["blocked", "cleared", "held", "open"]),
    ],
)
def test_studies_are_found_by_their_state(
    judged: tuple[int, dict[str, str]], asker: Association, block: int, state: str, expected: list[str]
) -> None:
    ds = with_block(identifier("STUDY", StudyInstanceUID=""), block, state=state)
    _, matches, statuses = find(asker, ds)
    names = {uid: name for name, uid in judged[1].items()}
    assert sorted(names[uid] for uid in uids(matches)) == expected
    assert statuses <= {PENDING}
    for match in matches:
        assert match[0x00990000 | block].value == CREATOR
        found = match[0x00990000 | block << 8 | 1].value
        assert (found.decode() if isinstance(found, bytes) else found).strip() == names[match.StudyInstanceUID].upper()


def test_studies_and_series_are_found_by_their_verdicts(judged: tuple[int, dict[str, str]], asker: Association) -> None:
    ds = with_block(identifier("STUDY", StudyInstanceUID=""), 0x10, verdict="FACE_PRESENT")
    assert uids(find(asker, ds)[1]) == [judged[1]["blocked"]]
    ds = identifier("SERIES", StudyInstanceUID=judged[1]["cleared"], SeriesInstanceUID="")
    _, (match,), _ = find(asker, with_block(ds, 0x10, verdict=""))
    assert match[0x0099, 0x1002].value in ("DEFACED", b"DEFACED ")


@pytest.mark.parametrize(
    ("state", "verdict", "n_expected"), [("CLEARED", "", 1), ("", "DEFACED", 1), ("BLOCKED", "", 0), ("", "", 1)]
)
def test_instances_have_the_state_of_their_study_and_the_verdict_of_their_series(
    judged: tuple[int, dict[str, str]], asker: Association, state: str, verdict: str, n_expected: int
) -> None:
    study = judged[1]["cleared"]
    ds = identifier("SERIES", StudyInstanceUID=study, SeriesInstanceUID="")
    series = uids(find(asker, with_block(ds, 0x10, verdict="DEFACED"))[1], "SeriesInstanceUID")[0]
    ds = identifier("IMAGE", StudyInstanceUID=study, SeriesInstanceUID=series, SOPInstanceUID="")
    _, matches, statuses = find(asker, with_block(ds, 0x10, state=state, verdict=verdict))
    assert bool(matches) is bool(n_expected)
    assert statuses <= {PENDING}
    for match in matches:
        assert match[0x0099, 0x1001].value in ("CLEARED", b"CLEARED ")
        assert match[0x0099, 0x1002].value in ("DEFACED", b"DEFACED ")


def test_instances_are_not_found_by_state_alone(judged: tuple[int, dict[str, str]]) -> None:
    with asking(judged[0], STUDY_ROOT, extensions={STUDY_ROOT: b"\x01"}) as relational:
        ds = with_block(identifier("IMAGE", SOPInstanceUID=""), 0x10, state="BLOCKED")
        _, matches, statuses = find(relational, ds)
    assert len(matches) > 1
    assert statuses == {WITHOUT_SOME_KEYS}


def test_a_foreign_block_is_not_ours(asker: Association) -> None:
    ds = identifier("STUDY", StudyInstanceUID="")
    ds.add_new(0x00990010, "LO", "SOMEBODY ELSE")
    ds.add_new(0x00991001, "CS", "CLEARED")
    _, matches, statuses = find(asker, ds)
    assert (len(matches), statuses) == (4, {WITHOUT_SOME_KEYS})
    assert 0x00991001 not in matches[0]


@pytest.mark.peers
def test_findscu_asks_which_studies_may_leave(judged: tuple[int, dict[str, str]], tmp_path: Path) -> None:
    """As docs/configure.md says, since findscu takes a private key on its command line for hexadecimal bytes."""
    dump = tmp_path / "cleared.txt"
    dump.write_text("(0008,0052) CS STUDY\n(0020,000d) UI\n(0099,0010) LO DICOMNODE\n(0099,1001) CS CLEARED\n")
    assert run_tool("dump2dcm", dump, tmp_path / "cleared.dcm").returncode == 0
    arguments = ("-v", "-S", "-aet", "BOTH", "-aec", "NODE", "127.0.0.1", judged[0], tmp_path / "cleared.dcm")
    answer = run_tool("findscu", *arguments)
    assert answer.returncode == 0
    assert judged[1]["cleared"] in answer.stdout
    assert judged[1]["blocked"] not in answer.stdout
