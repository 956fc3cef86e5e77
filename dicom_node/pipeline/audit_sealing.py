"""Seal the entries of the audit trail, and keep the newest digest outside of the database."""

from __future__ import annotations

import logging

from dicom_node.logs import RepeatedFailure
from dicom_node.pipeline.errors import AuditChainError
from dicom_node.store import Store
from dicom_node.store.work.audit_chain import BATCH

log = logging.getLogger(__name__)


class AuditSealer:
    """Seals what is new since the last time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._failure = RepeatedFailure(log, "the audit trail was changed", "the audit trail fits what was noted again")

    def seal(self) -> None:
        """Seal all new entries; then note the newest digest, unless the chain no longer fits the one that was noted."""
        chain, noted = self._store.audit_chain, self._store.audit_head.read()
        fits = noted is None or chain.has(noted)
        while chain.seal() == BATCH:
            pass
        if not fits:
            self._failure.failed(AuditChainError(str(self._store.audit_head.path)))
            return
        self._failure.worked()
        head = chain.head()
        if head is not None and head != noted:
            self._store.audit_head.write(head)
