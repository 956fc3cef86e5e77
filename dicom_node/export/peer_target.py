"""Publish studies at a DIMSE or DICOMweb peer: all copies of a study accepted without a warning, or not published.

A peer cannot be made to take a study whole, and nothing can be taken back. So what may leave is asked before the first
copy, between the parts and after the last one, and the store remembers each copy that was sent and has arrived.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import BinaryIO, Final

from dicom_node.errors import Transient
from dicom_node.export.copying import Copied
from dicom_node.export.staging import Staged
from dicom_node.export.targets import MayLeave, Publication
from dicom_node.peers import ObjectToSend, SendOutcome, deliver
from dicom_node.settings import DicomwebPeer, DimsePeer
from dicom_node.store import ExportRow, NewExport, Store

PART: Final = 100  # copies between two looks at whether the study may still leave
WAITS_S: Final = (1.0, 5.0)  # before the second and the third attempt within a run
_DUPLICATE: Final = 0x0111  # the peer has this instance already

Deliver = Callable[[Sequence[ObjectToSend]], Sequence[SendOutcome]]


@dataclass(frozen=True, slots=True)
class PeerTarget:
    """A peer of the settings."""

    store: Store
    peer_name: str
    kind: str  # "dimse" or "dicomweb"
    deliver: Deliver
    now: Callable[[], datetime]
    by: str = "export"  # who exports, for the audit trail
    wait: Callable[[float], None] = time.sleep

    @property
    def name(self) -> str:
        """How the store remembers it."""
        return f"peer:{self.peer_name}"

    @property
    def in_manifest(self) -> dict[str, str]:
        """How the manifest names it."""
        return {"kind": self.kind, "name": self.peer_name}

    def publish(self, staged: Staged, new: NewExport, may_leave: MayLeave) -> Publication:
        """Send the copies that have not arrived yet, and publish the study once all have."""
        begun = self.store.exports.begin(new, may_leave, self.now())
        if begun is None:
            return Publication("changed-meanwhile", "something arrived or was decided while it was de-identified")
        problem = self._send(begun, staged, may_leave)
        n_arrived = self._n_arrived(begun, staged.copied)
        if problem is not None and problem.outcome == "not-accepted":
            return Publication(problem.outcome, problem.reason, n_arrived)
        if problem is None:
            with self.store.exports.publishing(begun, may_leave, self.now(), by=self.by) as is_fine:
                pass
            if is_fine:
                return Publication("exported", n_arrived=n_arrived)
        if not self.store.exports.copies(begun.id):
            self.store.exports.forget(begun)
            return Publication("changed-meanwhile", "something arrived or was decided just before it was sent")
        because = "something arrived or was decided while it was being sent"
        self.store.exports.withdraw(begun, because, self.now(), by=self.by)
        return Publication("withdrawn", f"{because}; delete the study at the peer", n_arrived)

    def _send(self, begun: ExportRow, staged: Staged, may_leave: MayLeave) -> Publication | None:
        """Send what is missing, up to three times; return None once all has arrived, else why not."""
        reason = ""
        for wait_s in (0.0, *WAITS_S):
            pending = self._pending(begun, staged.copied)
            if not pending:
                return None
            if wait_s:
                self.wait(wait_s)
            is_worth_repeating = False
            for start in range(0, len(pending), PART):
                part = pending[start : start + PART]
                if not self._may_still_leave(begun, may_leave):
                    return Publication("withdrawn")
                for problem, is_transient in self._send_part(begun, staged, part):
                    reason = reason or problem
                    is_worth_repeating |= is_transient
            if not is_worth_repeating:
                break
        missing = len(self._pending(begun, staged.copied))
        if not missing:
            return None
        told = (
            f"{missing} of {len(staged.copied)} copies were not accepted ({reason}); the same command sends them again"
        )
        return Publication("not-accepted", told)

    def _send_part(self, begun: ExportRow, staged: Staged, part: Sequence[Copied]) -> list[tuple[str, bool]]:
        """Send some copies; return a sentence for each that the peer did not accept, and whether to repeat soon."""
        sent_before = self.store.exports.copies(begun.id)
        self.store.exports.note_sent(begun.id, {one.sop_instance_uid: one.sha256 for one in part})
        outcomes = self.deliver([_to_send(one, staged) for one in part])
        arrived: list[str] = []
        problems: list[tuple[str, bool]] = []
        for copied, outcome in zip(part, outcomes, strict=True):
            if _is_accepted(outcome, copied, sent_before):
                arrived.append(copied.sop_instance_uid)
            elif outcome.error is not None:
                problems.append((str(outcome.error), isinstance(outcome.error, Transient)))
            else:
                problems.append((f"the peer answered with the warning 0x{outcome.warning_status or 0:04X}", False))
        self.store.exports.note_arrived(begun.id, arrived)
        return problems

    def _pending(self, begun: ExportRow, copied: Sequence[Copied]) -> list[Copied]:
        known = self.store.exports.copies(begun.id)
        return [one for one in copied if known.get(one.sop_instance_uid) != (one.sha256, True)]

    def _n_arrived(self, begun: ExportRow, copied: Sequence[Copied]) -> int:
        return len(copied) - len(self._pending(begun, copied))

    def _may_still_leave(self, begun: ExportRow, may_leave: MayLeave) -> bool:
        return self.store.exports.may_leave(begun.study_instance_uid, may_leave)


def peer_target(
    store: Store,
    peer: DimsePeer | DicomwebPeer,
    *,
    calling_ae_title: str,
    timeout_s: float,
    now: Callable[[], datetime],
    by: str = "export",
) -> PeerTarget:
    """Return a peer of the settings as a target."""
    send = partial(deliver, peer, calling_ae_title=calling_ae_title, timeout_s=timeout_s)
    return PeerTarget(store, peer.name, peer.kind, send, now, by)


def _is_accepted(outcome: SendOutcome, copied: Copied, sent_before: Mapping[str, tuple[str, bool]]) -> bool:
    """Return whether the peer has exactly this copy.

    A warning is not a success: the peer may have changed the copy. That it has the instance already is one only if
    this node sent it the same bytes before, whose answer was lost.
    """
    if outcome.error is not None:
        return False
    if outcome.warning_status is None:
        return True
    sha256, _ = sent_before.get(copied.sop_instance_uid, ("", False))
    return outcome.warning_status == _DUPLICATE and sha256 == copied.sha256


def _to_send(copied: Copied, staged: Staged) -> ObjectToSend:
    path = staged.folder / copied.relative_path

    def read() -> BinaryIO:
        return path.open("rb")

    return ObjectToSend(copied.sop_class_uid, copied.sop_instance_uid, copied.transfer_syntax_uid, read)
