"""What to do about a job that failed."""

from __future__ import annotations

from typing import Final

from dicom_node.store import JobRow

_SHORTAGES: Final = ("out-of-memory", "machine-short", "storage-full", "resources-exhausted")


def way_out(job: JobRow) -> str:
    """Return a sentence on a job that failed; empty where none did."""
    if not job.error_code:
        return ""
    if job.error_code == "internal":
        traceback = f"`dicom-node jobs show {job.id}` has the traceback"
        return f"a defect of the node: {traceback}; report it, and retry after an update"
    if job.error_code == "worker-lost":
        return "the worker ended without a word, perhaps for want of memory; look at its log, then retry"
    if job.error_code in _SHORTAGES:
        return "the machine lacked what the message names; make room for it, then retry"
    if job.attempt_number > 1:
        return f"tried {job.attempt_number} times; put right what the message names, then retry"
    return (
        "with the same images it would fail again; do what the message says. What is sent again starts over by itself"
    )
