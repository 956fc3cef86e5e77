"""What C-GET and C-MOVE share: which instances are asked for, and what is logged of them."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from dicom_node.dimse.contexts import AcceptedContext
from dicom_node.dimse.query.counts import Counts
from dicom_node.dimse.query.identifier import Identifier, read_identifier, retrieval_filters
from dicom_node.dimse.query.models import QUERY_MODELS
from dicom_node.dimse.query.receiving import QueryService
from dicom_node.dimse.query.status import QueryStatus
from dicom_node.dimse.status import Answer
from dicom_node.store.index.retrieval import FoundInstances

log = logging.getLogger(__name__)

MAX_REASONS: Final = 20  # logged of one retrieval
MAX_SUBJECT: Final = 650  # characters of UIDs in the audit trail, some ten of them
_UNIQUE_KEYS: Final = (0x0020000D, 0x0020000E, 0x00080018)


class RetrieveService(QueryService):
    """What C-GET and C-MOVE share."""

    busy_status = QueryStatus.CANNOT_COUNT

    def find(self, context: AcceptedContext, encoded: bytes) -> tuple[Identifier, FoundInstances]:
        """Return what is asked for and the instances that are; raises `IdentifierError`."""
        model = QUERY_MODELS[context.abstract_syntax]
        identifier = read_identifier(encoded, context.transfer_syntax_uid, model)
        is_relational = context.abstract_syntax in self.agreed.relational
        filters = retrieval_filters(identifier, model, is_relational=is_relational)
        return identifier, self.store.search.find_retrievable(filters, limit=self.policy.settings.max_instances)

    def too_many(self) -> Answer:
        """Return the answer to a request for more instances than the settings allow."""
        return self.refused(
            Answer(QueryStatus.CANNOT_COUNT, f"more than {self.policy.settings.max_instances} instances")
        )

    def note_end(
        self, operation: str, identifier: Identifier, counts: Counts, answer: Answer, reasons: Counter[str]
    ) -> None:
        """Log how a retrieval ended, with why instances were not sent; nothing of the identifier but its level."""
        fields = {
            "level": identifier.level.value,
            "n_completed": counts.completed,
            "n_failed": counts.failed,
            "n_warnings": counts.warning,
            "status": f"0x{answer.status:04X}",
        }
        if reasons:
            fields["reasons"] = "; ".join(f"{code}: {n}" for code, n in reasons.most_common(MAX_REASONS))
        subject = next(filter(None, (_uid(identifier, tag) for tag in _UNIQUE_KEYS)), "-")
        actor = str(self.fields.get("calling_ae_title", ""))
        detail = {"by": operation, "address": self.fields.get("host"), **fields}
        self.store.audit_buffer.note("retrieved", actor=actor, subject=subject, now=self.store.now(), detail=detail)
        level = logging.WARNING if counts.failed else logging.INFO
        log.log(level, "retrieval by %s answered", operation, extra={**self.fields, **fields})


def _uid(identifier: Identifier, tag: int) -> str:
    key = identifier.keys.get(tag)
    return (key.text or "")[:MAX_SUBJECT] if key is not None else ""
