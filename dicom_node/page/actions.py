"""What the page and the API do to jobs and deliveries, in the same way as the command line."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from starlette.requests import Request

from dicom_node.access.callers import caller_of
from dicom_node.gate.documents import Terms
from dicom_node.gate.judging import study_decision
from dicom_node.page.errors import FormError
from dicom_node.page.uids import is_number
from dicom_node.store import DeliveryRow, JobRow, Store

ACTIONS: Final = ("retry", "cancel")
_DONE: Final = {"retry": "retried", "cancel": "cancelled"}


def act_on_job(store: Store, terms: Terms, job_id: int, action: str, now: datetime, *, by: str) -> JobRow:
    """Queue a job again or cancel it; its study is judged anew, unless the models cannot be described.

    Parameters
    ----------
    by
        Who wants it, for the audit trail.
    """
    known = terms.pipeline_digest is not None
    decide_study = study_decision(terms.rules, terms.pipeline_digest) if known else None
    act = store.jobs.retry if _checked(action) == "retry" else store.jobs.cancel
    row = act(job_id, now, decide_study=decide_study)
    detail = {"job": job_id}
    store.audit.record(f"job-{_DONE[action]}", actor=by, subject=row.series_instance_uid, now=now, detail=detail)
    return row


def act_on_delivery(store: Store, delivery_id: int, action: str, now: datetime, *, by: str) -> DeliveryRow:
    """Queue a delivery again or cancel it; ``by`` says who wants it, for the audit trail."""
    is_retry = _checked(action) == "retry"
    row = store.deliveries.retry(delivery_id) if is_retry else store.deliveries.cancel(delivery_id, now)
    detail = {"delivery": delivery_id, "peer": row.peer}
    store.audit.record(f"delivery-{_DONE[action]}", actor=by, subject=row.series_instance_uid, now=now, detail=detail)
    return row


def actor_of(request: Request) -> str:
    """Return who does something by the page or the API, for the audit trail."""
    caller = caller_of(request)
    return "page" if caller is None else caller.name


def row_number(what: str, text: str) -> int:
    """Return the number of a job or a delivery."""
    if not is_number(text, max_digits=18):
        raise FormError(f"the {what}", text, "its number")
    return int(text)


def _checked(action: str) -> str:
    if action not in ACTIONS:
        raise FormError("the action", action, " or ".join(ACTIONS))
    return action
