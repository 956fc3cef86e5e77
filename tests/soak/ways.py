"""What becomes of every series of a folder: through ``dicom-node segment``, and through a running node."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.filereader import read_partial

from dicom_node.peers import ObjectToSend, deliver
from dicom_node.settings import DimsePeer
from dicom_node.store import JobState, SeriesState, Store
from tests.node_process import RunningNode, start_node, wait_for

N_ASSOCIATIONS = 4
UNFINISHED = (JobState.QUEUED, JobState.RUNNING, JobState.WAITING)
NOT_SENDABLE = "not-sendable"  # no file meta information, so that no C-STORE request can be made of it
CONFLICT = "0xB000"
LAST_UID_TAG, SERIES_UID_TAG = 0x00080018, 0x0020000E  # SOP Instance UID, Series Instance UID
AT_THE_DOOR = frozenset({NOT_SENDABLE, "not-part10", "context-refused", "store-refused"})
TROUBLE = frozenset({"association-aborted", "store-failed-for-now", "peer-timeout", "peer-unreachable", "internal"})


@dataclass(slots=True)
class Outcome:
    """What became of a series, or of a file that names none."""

    n_volumes: int = 0
    codes: set[str] = field(default_factory=set)  # of refusals, of skipping, of what was left out

    @property
    def is_told(self) -> bool:
        """Whether there is a result or a reason."""
        return self.n_volumes > 0 or bool(self.codes)


def keys_of(files: Iterable[Path]) -> dict[Path, str]:
    """The series that each file belongs to, else its own path."""
    return {path: _series_uid(path) or str(path) for path in files}


def _series_uid(path: Path) -> str:
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            ds: Any = read_partial(file, lambda tag, _vr, _length: tag > SERIES_UID_TAG, force=True)
            return str(ds.get("SeriesInstanceUID") or "")
    except Exception:  # noqa: BLE001 - pydicom raises anything on damaged files
        return ""


def through_segment(
    root: Path, keys: Mapping[Path, str], models: Mapping[str, Path], out: Path, *, timeout_s: float
) -> dict[str, Outcome]:
    """Run the offline command on the folder; it must end by itself, and not by a crash."""
    command = [sys.executable, "-m", "dicom_node.cli", "segment", str(root), "-o", str(out), "--threads=1"]
    command += [f"--{role}-model={path}" for role, path in models.items()]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert ended.returncode in (0, 3), ended.stderr[-4000:]
    assert "Traceback" not in ended.stderr
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    outcomes: dict[str, Outcome] = {key: Outcome() for key in keys.values()}
    for volume in summary["volumes"]:
        outcomes[volume["series_instance_uid"]].n_volumes += 1
    by_name = {str(path): key for path, key in keys.items()}
    for told in (*summary["failed"], *summary["not_used"]):
        outcomes[by_name.get(told["name"], told["name"])].codes.add(told["code"])
    return outcomes


def through_node(
    folder: Path, keys: Mapping[Path, str], models: Mapping[str, Path], *, quiet_s: float, timeout_s: float
) -> tuple[dict[str, Outcome], list[str]]:
    """Send every file, in the order of ``keys`` and over several associations at once, and wait until all has ended.

    Gives also what the log says around each traceback.
    """
    settings = {
        "models": {role: str(path) for role, path in models.items()},
        "series": {"quiet_s": quiet_s, "max_wait_s": 2 * quiet_s},
    }
    outcomes: dict[str, Outcome] = {key: Outcome() for key in keys.values()}
    with start_node(folder, settings) as node:
        for path, status in _send(node, list(keys)):
            outcomes[keys[path]].codes.add(status)
        with Store.open(node.data_dir) as store:
            wait_for("the last job", lambda: _is_idle(store, node), timeout_s=timeout_s, step_s=2.0)
            for series in store.series.list(is_received=True, limit=100_000):
                _add_what_became_of(store, series.series_instance_uid, outcomes)
        log = node.log.read_text(encoding="utf-8", errors="replace")
    return outcomes, [log[max(0, match.start() - 500) :][:3000] for match in re.finditer("Traceback", log)]


def _send(node: RunningNode, files: Sequence[Path]) -> list[tuple[Path, str]]:
    """Files that were not simply taken, with the status or what else was said."""
    peer = DimsePeer(name="node", kind="dimse", ae_title=node.ae_title, host=node.host, port=node.port)

    def send(part: Sequence[Path]) -> list[tuple[Path, str]]:
        sendable = [(path, to_send) for path in part if (to_send := _to_send(path)) is not None]
        told = [(path, NOT_SENDABLE) for path in set(part) - {path for path, _ in sendable}]
        outcomes = deliver(peer, [to_send for _, to_send in sendable], calling_ae_title="SOAK")
        for (path, _), outcome in zip(sendable, outcomes, strict=True):
            if outcome.error is not None:
                told.append((path, outcome.error.code))
            elif outcome.warning_status:
                told.append((path, f"0x{outcome.warning_status:04X}"))
        return told

    with ThreadPoolExecutor(N_ASSOCIATIONS) as pool:
        parts = pool.map(send, [files[number::N_ASSOCIATIONS] for number in range(N_ASSOCIATIONS)])
        return [one for part in parts for one in part]


def _to_send(path: Path) -> ObjectToSend | None:
    """As dcmtk's senders have it: by the UIDs of the dataset, else by those of the file meta information."""
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            ds: Any = read_partial(file, lambda tag, _vr, _length: tag > LAST_UID_TAG)
            meta: Any = ds.file_meta
            sop_class_uid = str(ds.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
            sop_instance_uid = str(ds.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID") or "")
            transfer_syntax_uid = str(meta.get("TransferSyntaxUID") or "")
    except Exception:  # noqa: BLE001 - pydicom raises anything on damaged files
        return None
    uids = (sop_class_uid, sop_instance_uid, transfer_syntax_uid)
    return ObjectToSend(*uids, lambda: path.open("rb")) if all(uids) else None


def _is_idle(store: Store, node: RunningNode) -> bool:
    assert node.process.poll() is None, "the node ended by itself"
    is_receiving = store.series.list(state=SeriesState.RECEIVING, is_received=True, limit=1)
    return not is_receiving and not store.jobs.list(states=UNFINISHED, limit=1)


def _add_what_became_of(store: Store, series_instance_uid: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[series_instance_uid]
    series = store.series.get(series_instance_uid)
    if series.state is SeriesState.SKIPPED:
        outcome.codes.add(str(series.skip_reason).partition(":")[0])
        return
    job = store.jobs.list(series_instance_uid=series_instance_uid, limit=1)[0]
    assert job.generation == series.generation
    if job.state is JobState.SUCCEEDED:
        outcome.n_volumes = sum(
            (verdict.series_instance_uid, verdict.generation) == (series_instance_uid, series.generation)
            for verdict in store.studies.verdicts(series.study_instance_uid)
        )
    else:
        outcome.codes.add(str(job.error_code))


def disagreement(offline: Outcome, node: Outcome) -> str | None:
    """What the two ways say differently of a series, apart from what they must; None where they agree.

    A rule skips more than the offline command, which has none; what the node does not take at its door, it says there;
    of two contents under one UID the node has taken the first, and the offline command refuses to choose.
    """
    if any(code.startswith(("rule-", "not-a-ct-or-mr-image")) for code in node.codes):
        return None
    if CONFLICT in node.codes and "conflicting-instance" in offline.codes:
        return None
    reasons = {code for code in node.codes if not code.startswith("0x")}
    if node.n_volumes == offline.n_volumes and (node.n_volumes or reasons & offline.codes):
        return None
    if not node.n_volumes and not offline.n_volumes and node.codes and node.codes <= AT_THE_DOOR and offline.codes:
        return None
    return (
        f"segment: {offline.n_volumes} volumes, {sorted(offline.codes)}; node: {node.n_volumes}, {sorted(node.codes)}"
    )
