"""Who may query and retrieve here, and what answers depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dicom_node.dimse.query.models import QUERY_MODELS
from dicom_node.settings import DimsePeer, QueryRetrieveSettings
from dicom_node.store import GateTerms, InstanceRow, ObjectStore
from dicom_node.upper_layer.command_set import CommandField

Decompress = Callable[[ObjectStore, InstanceRow], Iterator[bytes]]
PERFORMED = (CommandField.C_FIND_RQ, CommandField.C_GET_RQ, CommandField.C_MOVE_RQ)


@dataclass(frozen=True, slots=True)
class QueryRetrieve:
    """Query and retrieve, as the settings want it.

    Attributes
    ----------
    ae_title
        The node's own, as the Retrieve AE Title of what is found.
    terms
        Returns the present rules, by which studies have a state; None: states are not known here.
    decompress
        Returns an instance as a Part 10 file in Explicit VR Little Endian, in chunks; None: C-GET sends instances only
        as they are stored.
    """

    ae_title: str
    settings: QueryRetrieveSettings
    peers: Sequence[DimsePeer]
    terms: Callable[[], GateTerms] | None
    decompress: Decompress | None = None

    def permitted(self, calling_ae_title: str) -> frozenset[str] | None:
        """Return the SOP classes of query and retrieve that a requestor may use, or None if nobody may."""
        if not self.settings.enabled:
            return None
        may_query = self._may(calling_ae_title, [peer.may_query for peer in self._known(calling_ae_title)])
        may_retrieve = self._may(calling_ae_title, [peer.may_retrieve for peer in self._known(calling_ae_title)])
        return frozenset(
            uid
            for uid, model in QUERY_MODELS.items()
            if model.operation in PERFORMED
            and (may_query if model.operation is CommandField.C_FIND_RQ else may_retrieve)
        )

    def destination(self, ae_title: str) -> DimsePeer | None:
        """Return the peer to which a C-MOVE to this AE title sends, or None if none may be sent to."""
        return next((peer for peer in self._known(ae_title) if peer.may_retrieve), None)

    def _known(self, ae_title: str) -> list[DimsePeer]:
        return [peer for peer in self.peers if peer.ae_title == ae_title]

    def _may(self, ae_title: str, permissions: Sequence[bool]) -> bool:
        """Whether one of the peers with an AE title may; others may if the settings let everyone."""
        return any(permissions) if self._known(ae_title) else not self.settings.known_peers_only
