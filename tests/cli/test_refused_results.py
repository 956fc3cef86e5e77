"""A PACS that stores no SR: what the administrator is shown, and the two ways out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from dicom_node.peers import deliver
from dicom_node.pipeline.delivery import Outbox
from dicom_node.pipeline.retry import RetryPolicy
from dicom_node.settings import DimsePeer
from dicom_node.store import JobRow, JobState, NewResult, Outcome, Store
from tests.cli.conftest import NOON, Run
from tests.peer_servers import DimsePeerServer, start_storescp
from tests.sr_writer.test_report import written

pytestmark = pytest.mark.peers

SEG_ONLY = r"""
[[TransferSyntaxes]]
[Uncompressed]
TransferSyntax1 = LocalEndianExplicit
TransferSyntax2 = LittleEndianImplicit
[[PresentationContexts]]
[Contexts]
PresentationContext1 = VerificationSOPClass\Uncompressed
PresentationContext2 = SegmentationStorage\Uncompressed
[[Profiles]]
[SegmentationsOnly]
PresentationContexts = Contexts
"""


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[DimsePeerServer]:
    """A storescp that accepts segmentations only."""
    profile = tmp_path / "storescp.cfg"
    profile.write_text(SEG_ONLY)
    with start_storescp(tmp_path, options=("-xf", str(profile), "SegmentationsOnly")) as server:
        yield server


@pytest.fixture
def refused(config: Path, queued_job: JobRow, pacs: DimsePeerServer) -> Path:
    """Settings of a node that has sent SEG and SR to it."""
    segmentation, report = written("both")
    assert segmentation is not None
    results = tuple(
        NewResult(
            kind,
            1,
            one.sop_class_uid,
            one.sop_instance_uid,
            one.transfer_syntax_uid,
            encoded_dataset=one.encoded_dataset,
        )
        for kind, one in (("seg", segmentation), ("sr", report))
    )
    with Store.open(config.parent / "data") as store:
        job = store.jobs.claim("w", NOON, 60.0, pipeline_digest=queued_job.pipeline_digest)
        assert job is not None
        store.jobs.succeed(job.id, "w", Outcome(results=results, deliver_to=("pacs",)), NOON)
        send_due(store, pacs)
    return config


def send_due(store: Store, pacs: DimsePeerServer) -> int:
    peer = DimsePeer(name="pacs", ae_title=pacs.ae_title, host=pacs.host, port=pacs.port)
    send = partial(deliver, calling_ae_title="NODE", timeout_s=30.0)
    outbox = Outbox(store, peer, send, RetryPolicy(3, 1.0), 60.0, "w", lambda: NOON + timedelta(seconds=5))
    return outbox.deliver_due(must_stop=lambda: False)


def states(config: Path) -> dict[str, JobState]:
    with Store.open(config.parent / "data") as store:
        return {delivery.kind: delivery.state for delivery in store.deliveries.list()}


def test_the_seg_arrives_and_status_says_what_can_be_done_about_the_sr(run: Run, refused: Path) -> None:
    assert states(refused) == {"seg": JobState.SUCCEEDED, "sr": JobState.DEAD}
    (dead,) = json.loads(run("deliveries", "list", "--state", "dead", "--json", "-c", refused).stdout)
    assert (dead["kind"], dead["error_code"]) == ("sr", "context-refused")
    shown = " ".join(run("status", "-c", refused).stdout.split())
    assert "does not accept SOP class" in shown
    assert "or leave sr out of its results and type: dicom-node deliveries cancel --peer pacs --kind sr" in shown


def test_what_a_peer_shall_not_get_is_cancelled_and_keeps_no_sources(run: Run, refused: Path) -> None:
    def is_kept() -> bool:
        with Store.open(refused.parent / "data") as store:
            (source,) = store.retention.survey()
            return source.has_open_deliveries

    assert is_kept()
    assert run("deliveries", "cancel", "--peer", "pacs", "--kind", "kos", "-c", refused).stdout == (
        "0 deliveries to pacs are cancelled\n"
    )
    assert run("deliveries", "cancel", "--peer", "pacs", "--kind", "sr", "-c", refused).stdout == (
        "1 deliveries to pacs are cancelled\n"
    )
    assert states(refused) == {"seg": JobState.SUCCEEDED, "sr": JobState.CANCELLED}
    assert not is_kept()
    assert "is dead" not in run("status", "-c", refused).stdout


def test_what_is_allowed_there_now_is_sent_once_more(
    run: Run, refused: Path, pacs: DimsePeerServer, tmp_path: Path
) -> None:
    assert run("deliveries", "retry", "--peer", "pacs", "-c", refused).stdout == "1 deliveries to pacs are queued\n"
    with start_storescp(tmp_path / "corrected") as corrected, Store.open(refused.parent / "data") as store:
        assert send_due(store, corrected) == 1
        assert len(list(corrected.folder.iterdir())) == 1
    assert states(refused) == {"seg": JobState.SUCCEEDED, "sr": JobState.SUCCEEDED}


@pytest.mark.parametrize("command", ["retry", "cancel"])
def test_deliveries_are_named_or_chosen_by_their_peer(run: Run, refused: Path, command: str) -> None:
    assert "DELIVERY... or --peer" in run("deliveries", command, "-c", refused).stderr
    assert "DELIVERY... or --peer" in run("deliveries", command, 1, "--peer", "pacs", "-c", refused).stderr
    assert "--kind" in run("deliveries", command, 1, "--kind", "sr", "-c", refused).stderr
    wrong = run("deliveries", command, "--peer", "pacs", "--kind", "pdf", "-c", refused)
    assert wrong.exit_code == 2
    assert [kind for kind in ("seg", "sr", "kos", "source") if kind not in wrong.stderr] == []
