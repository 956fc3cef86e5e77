"""What must hold when a node has been tortured and has finished its work: nothing lost, nothing twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread

from dicom_node.store import JobState, SeriesState, Store, StudyState
from tests.dimse.raw_peer import dataset_part
from tests.torture.tally import Tally

STUCK_S = 300.0  # without anything that got done: on a busy machine the rest of the work may take long


def check(store: Store, archive: Path, tally: Tally) -> None:
    """Wait until the node has finished its work, then compare all that there is with all that there should be.

    ``archive`` is the folder in which the peer keeps what it was sent.
    """
    _wait_until_at_rest(store, tally)
    for uid, data_set in tally.acknowledged.items():
        rows = store.search.find_instances(sop_instance_uid=uid)
        if len(rows) != 1 or store.objects.read_dataset_bytes(rows[0].digest) != data_set:
            tally.lost.append(uid)
    jobs = store.jobs.list(limit=10**6)
    delivered = Counter(one.sop_instance_uid for one in store.deliveries.list(limit=10**6))
    ended = Counter((job.series_instance_uid, job.generation) for job in jobs if job.state is JobState.SUCCEEDED)
    tally.doubled_results += [f"series {uid}, generation {n}" for (uid, n), times in ended.items() if times > 1]
    in_archive = _archived(archive, tally)
    tally.study_states.update(study.state.value for study in store.studies.list(limit=10**6))
    for job in jobs:
        if job.state not in (JobState.SUCCEEDED, JobState.SUPERSEDED):
            tally.unfinished.append(f"series {job.series_instance_uid}: job is {job.state.value}")
        results = store.jobs.results(job.id)
        kinds = Counter((result.kind, result.stack_number) for result in results)
        tally.doubled_results += [f"job {job.id}: {times} {what}" for what, times in kinds.items() if times > 1]
        for result in results:
            uid = result.sop_instance_uid
            if delivered[uid] > 1:
                tally.doubled_deliveries.append(uid)
            if result.superseded_by_job_id is None and (delivered[uid] == 0 or uid not in in_archive):
                tally.missing_deliveries.append(uid)
    with_job = {job.series_instance_uid for job in jobs if job.state is JobState.SUCCEEDED}
    received = [one for one in store.series.list() if one.state is not SeriesState.DELETED and one.n_instances]
    sources = {row.series_instance_uid for row in received} - _series_of_results(store, jobs)
    tally.unfinished += [f"series {uid}: no result" for uid in sources - with_job]


def _archived(archive: Path, tally: Tally) -> set[str]:
    """SOP Instance UIDs that the peer has; each that it was sent with different bytes is doubled."""
    contents: dict[str, list[bytes]] = {}
    for path in archive.iterdir():
        contents.setdefault(str(dcmread(path, stop_before_pixels=True).SOPInstanceUID), []).append(path.read_bytes())
    for uid, several in contents.items():
        tally.n_sent_twice += len(several) - 1
        if len({dataset_part(one) for one in several}) > 1:
            tally.doubled_deliveries.append(f"{uid}: with different contents")
    return set(contents)


def _series_of_results(store: Store, jobs: Sequence[object]) -> set[str]:
    rows = (
        store.search.find_instances(sop_instance_uid=each.sop_instance_uid)
        for job in jobs
        for each in store.jobs.results(job.id)
    )  # type: ignore[attr-defined]
    return {row.series_instance_uid for found in rows for row in found}


def _wait_until_at_rest(store: Store, tally: Tally) -> None:
    """Wait for the work to end, as long as there is progress."""
    done, since = None, time.monotonic()
    while not _is_at_rest(store, tally):
        now_done = (store.jobs.counts(), store.deliveries.counts(), store.series.counts())
        if now_done != done:
            done, since = now_done, time.monotonic()
        assert time.monotonic() - since < STUCK_S, f"nothing got done for {STUCK_S:.0f} s: {done}"
        time.sleep(0.5)


def _is_at_rest(store: Store, tally: Tally) -> bool:
    """Whether every series is closed, and no job or delivery is open."""
    open_states = {JobState.QUEUED, JobState.RUNNING, JobState.WAITING}
    n_closed = sum(n for state, n in store.series.counts().items() if state is not SeriesState.RECEIVING)
    return (
        n_closed >= tally.n_series
        and SeriesState.RECEIVING not in store.series.counts()
        and not open_states & set(store.jobs.counts())
        and not open_states & set(store.deliveries.counts())
        and not store.studies.list(state=StudyState.OPEN, limit=1)
    )
