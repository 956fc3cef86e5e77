"""What peers accepted and refused the last time that it was proposed to them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.schema import peer_contexts
from dicom_node.store.work.delivery_rows import PeerContextRow

_COLUMNS = [peer_contexts.c[name] for name in PeerContextRow.__dataclass_fields__]


class PeerContexts:
    """SOP classes in transfer syntaxes, as peers answered them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, peer: str, answers: Mapping[tuple[str, str], bool], now: datetime) -> None:
        """Record whether a peer accepts SOP classes, each in a transfer syntax."""
        with self._database.write() as connection:
            for (sop_class_uid, transfer_syntax_uid), is_accepted in answers.items():
                key = {"peer": peer, "sop_class_uid": sop_class_uid, "transfer_syntax_uid": transfer_syntax_uid}
                values = {"is_accepted": is_accepted, "noted_at": now}
                if connection.execute(sa.update(peer_contexts).filter_by(**key).values(**values)).rowcount == 0:
                    connection.execute(sa.insert(peer_contexts).values(**key, **values))

    def list(self) -> tuple[PeerContextRow, ...]:
        """Return what is known, by peer, SOP class and transfer syntax."""
        with self._database.read() as connection:
            return tuple(
                PeerContextRow(*row) for row in connection.execute(sa.select(*_COLUMNS).order_by(*_COLUMNS[:3]))
            )
