"""Kill or restart the scheduler, an Orthanc and a webhook: afterwards both targets know what holds, and only that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import httpx
import pytest

from dicom_node import app
from dicom_node.gate.decisions import decide
from dicom_node.gate.rules import gate_digest
from dicom_node.settings import load_settings
from dicom_node.store import DecisionKind, JobState, Store
from tests.crash.parts import Node
from tests.factories import ct_series
from tests.gate.test_decisions import found
from tests.node_process import wait_for
from tests.peer_servers import OrthancServer, free_port, start_orthanc
from tests.store.sending import STUDY, instance, keep
from tests.webhook_receiver import SECRET, WebhookReceiver, start_webhook_receiver

pytestmark = [pytest.mark.crash, pytest.mark.peers, pytest.mark.slow]

MOMENTS = {
    "claimed, nothing said": "dicom_node.store.work.notices:Notices.claim_due:after:2",
    "earlier state taken away, next not set": "dicom_node.peers.orthanc:_Orthanc.set_state:before:1",
    "told, not noted": "dicom_node.store.work.notices:Notices.succeed:before:2",
}


class Site:
    """An Orthanc and a webhook at fixed ports, each of which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = (free_port(), free_port())
        self.url = f"http://127.0.0.1:{self.ports[1]}"
        self.hook_port = free_port()

    @contextmanager
    def running(self) -> Iterator[tuple[OrthancServer, WebhookReceiver]]:
        with ExitStack() as stack:
            orthanc = stack.enter_context(start_orthanc(self.folder / "orthanc", ports=self.ports))
            receiver = stack.enter_context(start_webhook_receiver(self.folder / "hook", port=self.hook_port))
            yield orthanc, receiver

    def shown(self) -> str | None:
        """What Orthanc shows of the study."""
        (hit,) = httpx.post(f"{self.url}/tools/lookup", content=STUDY, trust_env=False).json()
        answer = httpx.get(f"{self.url}{hit['Path']}/metadata/4410", trust_env=False)
        return answer.text if answer.is_success else None

    def upload(self) -> None:
        """Let Orthanc have a study with the UID of the one that the node judges."""
        ds = next(iter(ct_series(1, rows=16, columns=16))).dataset()
        ds.StudyInstanceUID = STUDY
        buffer = BytesIO()
        ds.save_as(buffer, enforce_file_format=True)
        httpx.post(f"{self.url}/instances", content=buffer.getvalue(), trust_env=False).raise_for_status()


@pytest.fixture
def site(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site(tmp_path)
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    node.configure(
        notify=[
            {"name": "pacs", "kind": "orthanc", "url": site.url},
            {
                "name": "hook",
                "kind": "webhook",
                "url": f"http://127.0.0.1:{site.hook_port}",
                "secret_env": "HOOK_SECRET",
            },
        ],
        series={"quiet_s": 3600.0, "max_wait_s": 7200.0},
        work={"lease_s": 1.0},
        delivery={"backoff_s": 0.2, "max_backoff_s": 0.5},
    )
    return site


def all_told(node: Node) -> bool:
    with node.store() as store:
        rows = store.notices.list()
    return len(rows) == 2 and all(row.state is JobState.SUCCEEDED for row in rows)


def judged(node: Node, verdict: str, *, series: str = "1.2.3.4") -> None:
    with node.store() as store:
        found(store, verdict, series=series, digest=digest_of(node))


def digest_of(node: Node) -> str:
    return app.current_pipeline_digest(load_settings(node.settings_path, {}))


def late_slice(node: Node) -> None:
    with node.store() as store:
        keep(store, instance(2, series="1.2.3.4", received_at=datetime.now(UTC)))


def hold(store: Store, node: Node) -> None:
    rules = app.read_rules(load_settings(node.settings_path, {})).study
    decide(store, STUDY, DecisionKind.HOLD, reason="why", decided_by="Ann", now=datetime.now(UTC),
           gate_digest=gate_digest(rules, digest_of(node)), rules=rules)  # fmt: skip


def test_a_clearance_is_taken_back_after_both_sides_were_away(node: Node, site: Site) -> None:
    judged(node, "defaced")
    with node.part("schedule") as scheduler:
        with site.running() as (orthanc, receiver):
            site.upload()
            wait_for("both to know", lambda: all_told(node))
            assert (site.shown(), receiver.new_states(STUDY)[-1]) == ("cleared", "cleared")
            for target in (orthanc, receiver):
                target.process.kill()
        late_slice(node)  # both are away now
        judged(node, "defaced")  # and it is cleared again, on other evidence
        with node.store() as store:
            hold(store, node)
        wait_for("both to be missed", lambda: _n_waiting(node) == 2)
        scheduler.kill()
    with site.running() as (_, receiver), node.part("schedule"):
        wait_for("both to know", lambda: all_told(node))
        assert site.shown() is None
        told = receiver.new_states(STUDY)
        assert told[-1] == "held"
        assert told.count("cleared") == 1  # the second clearance was over before it could be told
        versions = [body["version"] for _, body in receiver.taken()]
        assert versions == sorted(versions)


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_both_know_what_holds_whenever_the_scheduler_is_killed(node: Node, site: Site, moment: str) -> None:
    judged(node, "defaced")
    with site.running() as (_, receiver):
        site.upload()
        with node.part("schedule", moment) as scheduler:
            scheduler.wait_until_killed()
        assert site.shown() in (None, "cleared")
        judged(node, "face_present", series="1.2.3.5")
        with node.part("schedule"):
            wait_for("both to know", lambda: all_told(node))
        assert site.shown() == "blocked"
        told = receiver.new_states(STUDY)
        assert told[-1] == "blocked"
        assert told in (["blocked"], ["cleared", "blocked"])


def _n_waiting(node: Node) -> int:
    with node.store() as store:
        return len(store.notices.list(states=[JobState.WAITING]))
