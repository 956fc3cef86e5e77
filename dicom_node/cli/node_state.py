"""Read the state of a node from its store and its ports."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from dicom_node.app import utc_now
from dicom_node.certificates import Certificates
from dicom_node.cli.options import open_existing_store
from dicom_node.settings import Settings
from dicom_node.store import IndexUnavailableError, JobState, PartState, Store, Trouble, intake_trouble, part_troubles

if TYPE_CHECKING:
    from dicom_node.upper_layer.tls.certificates import CertificateFacts

CONNECT_TIMEOUT_S = 1.0
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked at this machine's own address
N_DEAD_SHOWN = 20


def node_state(settings: Settings) -> dict[str, Any]:
    """Return the state of parts and ports, counts by state, final failures, and what keeps the node from working.

    ``troubles`` is empty if all is well; each entry has its subject, a stable code and a sentence. If the store cannot
    be opened, an entry says why, and everything that would be read from the store is missing.

    Raises
    ------
    NoStoreError
        No node has run with these settings.
    """
    parts = Store.parts(settings.node.data_dir)
    dimse, certificates = settings.dimse, Certificates(settings)
    ports = {
        **({"dimse": _port_state(dimse.host, dimse.port)} if dimse.plain else {}),
        **({"dimse_tls": _port_state(dimse.host, dimse.tls.port)} if dimse.tls.port is not None else {}),
        "web": _port_state(settings.web.host, settings.web.port),
    }
    troubles = [*part_troubles(parts), *_port_troubles(ports), *certificates.troubles(utc_now())]
    counts: dict[str, Any] = {}
    try:
        with open_existing_store(settings) as store:
            counts = _counts_of(store)
            troubles += [*_intake_troubles(store, parts), *_pipeline_troubles(store, parts)]
    except IndexUnavailableError as error:
        troubles.append(Trouble("store", error.code, str(error)))
    except OSError as error:
        words = f"node.data_dir cannot be used ({error.strerror}); make it writable for the node's user"
        troubles.append(Trouble("store", "not-writable", words))
    return {
        "ae_title": settings.node.ae_title,
        "data_dir": str(settings.node.data_dir),
        **ports,
        "parts": [_part_state(part) for part in parts],
        **counts,
        "certificates": [_certificate_state(each) for each in certificates.facts()],
        "troubles": troubles,
    }


def _counts_of(store: Store) -> dict[str, Any]:
    """Return the number of series, jobs, deliveries, notices and conflicts by state, and the final failures."""
    jobs, deliveries = store.jobs.counts(), store.deliveries.counts()
    dead_jobs = store.jobs.list(states=(JobState.DEAD,), limit=N_DEAD_SHOWN)
    notices = store.notices.counts()
    dead_notices = store.notices.list(states=(JobState.DEAD,), limit=N_DEAD_SHOWN)
    dead_deliveries = store.deliveries.list(states=(JobState.DEAD,), limit=N_DEAD_SHOWN)
    return {
        "series": {state.value: n_series for state, n_series in store.series.counts().items()},
        "jobs": {state.value: n_jobs for state, n_jobs in jobs.items()},
        "deliveries": {state.value: n_deliveries for state, n_deliveries in deliveries.items()},
        "commitments": {
            peer: {state.value: number for state, number in of_peer.items()}
            for peer, of_peer in store.commitments.counts().items()
        },
        "notices": {state.value: n_notices for state, n_notices in notices.items()},
        "delivered_series": store.delivery_checks.counts(),
        "instances": {"conflicts": store.series.n_conflicts()},
        "dead_jobs": [
            {
                "id": job.id,
                "series_instance_uid": job.series_instance_uid,
                "code": job.error_code,
                "message": job.error_message,
            }
            for job in dead_jobs
        ],
        "dead_deliveries": [
            {"id": delivery.id, "peer": delivery.peer, "code": delivery.error_code, "message": delivery.error_message}
            for delivery in dead_deliveries
        ],
        "dead_notices": [
            {
                "id": notice.id,
                "target": notice.target,
                "study_instance_uid": notice.study_instance_uid,
                "code": notice.error_code,
                "message": notice.error_message,
            }
            for notice in dead_notices
        ],
        "more_dead_jobs": jobs.get(JobState.DEAD, 0) - len(dead_jobs),
        "more_dead_deliveries": deliveries.get(JobState.DEAD, 0) - len(dead_deliveries),
        "more_dead_notices": notices.get(JobState.DEAD, 0) - len(dead_notices),
    }


def _part_state(part: PartState) -> dict[str, Any]:
    state = "down" if not part.is_running else "ready" if part.is_ready else "starting"
    return {"name": part.name, "state": state, "host": part.host, "pid": part.pid, "started_at": part.started_at}


def _certificate_state(certificate: CertificateFacts) -> dict[str, Any]:
    now = utc_now()
    return {
        "setting": certificate.about,
        "subject": certificate.subject,
        "not_after": certificate.not_after,
        "state": certificate.validity(now).value,
        "warning": certificate.warning(now),
    }


def _intake_troubles(store: Store, parts: Sequence[PartState]) -> Iterator[Trouble]:
    """Yield troubles that this process finds and the receiver has not reported (yet)."""
    known = {part.trouble.code for part in parts if part.name == "receive" and part.trouble is not None}
    trouble = intake_trouble(store, utc_now())
    if trouble is not None and trouble.code not in known:
        yield trouble


def _port_troubles(ports: Mapping[str, Mapping[str, Any]]) -> Iterator[Trouble]:
    for name, port in ports.items():
        if port["answers"] is False:
            yield Trouble(name, "not-listening", f"nothing listens on {port['host']}:{port['port']}")


def _pipeline_troubles(store: Store, parts: Sequence[PartState]) -> Iterator[Trouble]:
    """Yield troubles for jobs that no running worker takes, because they are for other models or rules."""
    loaded = {part.pipeline_digest for part in parts if part.name == "work" and part.is_running and part.is_ready}
    if not loaded:
        return
    at_hand = ", ".join(sorted(str(digest)[:12] for digest in loaded))
    for digest, n_jobs in store.jobs.unfinished_by_pipeline().items():
        if digest not in loaded:
            message = f"{n_jobs} jobs are for pipeline {digest[:12]}, the worker has {at_hand}; restart the node"
            yield Trouble("work", "other-pipeline", message)


def _port_state(host: str, port: int) -> dict[str, Any]:
    """Return whether something listens on a port; one that the system chose is not known here."""
    answers: bool | None = None
    if port:
        try:
            with closing(socket.create_connection((ANYWHERE.get(host, host), port), timeout=CONNECT_TIMEOUT_S)):
                answers = True
        except OSError:
            answers = False
    return {"host": host, "port": port, "answers": answers}
