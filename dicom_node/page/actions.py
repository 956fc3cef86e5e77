"""What the page and the API do to jobs and deliveries, in the same way as the command line."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from dicom_node.gate.documents import Terms
from dicom_node.gate.judging import study_decision
from dicom_node.page.errors import FormError
from dicom_node.store import DeliveryRow, JobRow, Store

ACTIONS: Final = ("retry", "cancel")


def act_on_job(store: Store, terms: Terms, job_id: int, action: str, now: datetime) -> JobRow:
    """Queue a job again or cancel it; its study is judged anew, unless the models cannot be described."""
    known = terms.pipeline_digest is not None
    decide_study = study_decision(terms.rules, terms.pipeline_digest) if known else None
    if _checked(action) == "retry":
        return store.jobs.retry(job_id, now, decide_study=decide_study)
    return store.jobs.cancel(job_id, now, decide_study=decide_study)


def act_on_delivery(store: Store, delivery_id: int, action: str, now: datetime) -> DeliveryRow:
    """Queue a delivery again or cancel it."""
    if _checked(action) == "retry":
        return store.deliveries.retry(delivery_id)
    return store.deliveries.cancel(delivery_id, now)


def row_number(what: str, text: str) -> int:
    """Return the number of a job or a delivery."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise FormError(f"the {what}", text, "its number")
    return int(text)


def _checked(action: str) -> str:
    if action not in ACTIONS:
        raise FormError("the action", action, " or ".join(ACTIONS))
    return action
