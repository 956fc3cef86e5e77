"""Decide which presentation contexts to accept: all that can be stored, since bytes are kept and not decoded.

The standard's storage SOP classes and transfer syntaxes are always accepted. Beyond them, vendors have classes of their
own (Siemens CSA Non-Image) and transfer syntaxes of their own (GE, Philips), and the standard adds new ones. A sender
often stops its whole job at the first object that it cannot send, so these are accepted too, unless the setting
``dimse.accept_unknown_uids`` is off. A private UID does not say what it is for: it counts as a storage SOP class,
and any other operation on it is answered with 0x0211.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydicom.uid import UID_dictionary  # type: ignore[attr-defined]
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts

from dicom_node.upper_layer import commitment
from dicom_node.upper_layer.associate import Roles
from dicom_node.upper_layer.presentation import AnsweredContext, ContextResult, ProposedContext

VERIFICATION = "1.2.840.10008.1.1"
# Named "Storage" in the standard's list of SOP classes, but not sent by C-STORE.
NOT_FOR_C_STORE = frozenset(
    {
        "1.2.840.10008.1.3.10",  # Media Storage Directory
        "1.2.840.10008.1.20.1",  # Storage Commitment Push Model
        "1.2.840.10008.1.20.2",  # Storage Commitment Pull Model
    }
)
# In the standard, but perhaps not in the installed versions of pydicom and pynetdicom.
RECENT_STORAGE = (
    "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation
    "1.2.840.10008.5.1.4.1.1.66.8",  # Height Map Segmentation
)
RECENT_TRANSFER_SYNTAXES = (
    "1.2.840.10008.1.2.4.110",  # JPEG XL Lossless
    "1.2.840.10008.1.2.4.111",  # JPEG XL JPEG Recompression
    "1.2.840.10008.1.2.4.112",  # JPEG XL
)
# Not used for datasets in messages: SMPTE ST 2110 streams, MIME and XML encodings, Papyrus files.
NOT_FOR_MESSAGES = ("1.2.840.10008.1.2.7.", "1.2.840.10008.1.2.6.", "1.2.840.10008.1.20")
_STANDARD_ROOT = "1.2.840.10008."
_STANDARD_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."  # where new storage SOP classes are added
_STANDARD_TRANSFER_SYNTAX_ROOT = "1.2.840.10008.1.2."
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)+", re.ASCII)
_MAX_UID_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """A presentation context that requestor and acceptor agreed on."""

    context_id: int
    abstract_syntax: str
    transfer_syntax_uid: str

    @property
    def is_for_storage(self) -> bool:
        """Whether C-STORE may use it."""
        return self.abstract_syntax not in (VERIFICATION, commitment.STORAGE_COMMITMENT)


def storage_sop_classes() -> frozenset[str]:
    """Return the UIDs of all storage SOP classes of the standard, retired, DICONDE and DICOS ones included."""
    named = {
        uid for uid, (name, kind, *_) in UID_dictionary.items() if kind == "SOP Class" and "Storage" in name
    } - NOT_FOR_C_STORE
    from_pynetdicom = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    return frozenset(named | from_pynetdicom | set(RECENT_STORAGE))


def transfer_syntaxes() -> frozenset[str]:
    """Return the UIDs of all transfer syntaxes of the standard that a dataset may have."""
    named = {uid for uid, (_, kind, *_) in UID_dictionary.items() if kind == "Transfer Syntax"}
    known = named | {str(uid) for uid in ALL_TRANSFER_SYNTAXES} | set(RECENT_TRANSFER_SYNTAXES)
    return frozenset(uid for uid in known if not uid.startswith(NOT_FOR_MESSAGES))


STORAGE_SOP_CLASSES = storage_sop_classes()
TRANSFER_SYNTAXES = transfer_syntaxes()


def is_storable(sop_class_uid: str, *, accept_unknown: bool) -> bool:
    """Return whether a SOP class is, or may be, a storage SOP class."""
    if sop_class_uid in STORAGE_SOP_CLASSES:
        return True
    if not accept_unknown or not _is_uid(sop_class_uid) or _is_named(sop_class_uid):
        return False
    return sop_class_uid.startswith(_STANDARD_STORAGE_ROOT) or not sop_class_uid.startswith(_STANDARD_ROOT)


def negotiate_contexts(proposed: Iterable[ProposedContext], *, accept_unknown: bool) -> tuple[AnsweredContext, ...]:
    """Answer each proposed context.

    Of several transfer syntaxes, the first in the requestor's list that is in the standard is chosen: most likely the
    object is stored in it, so that the sender need not transcode. One outside the standard is chosen
    only if there is no other, because few receivers can decode it.
    """
    return tuple(_answer(context, accept_unknown) for context in proposed)


def grant_roles(proposed: Iterable[Roles]) -> tuple[Roles, ...]:
    """Grant a requestor to report on storage commitment, as the SCP; to all else the default roles apply."""
    return tuple(
        Roles(roles.sop_class_uid, is_scu=False, is_scp=roles.is_scp)
        for roles in proposed
        if roles.sop_class_uid == commitment.STORAGE_COMMITMENT
    )


def accepted_contexts(
    proposed: Iterable[ProposedContext], answers: Iterable[AnsweredContext]
) -> Mapping[int, AcceptedContext]:
    """Return the accepted contexts by their ID."""
    return {
        answer.context_id: AcceptedContext(answer.context_id, context.abstract_syntax, answer.transfer_syntax_uid)
        for context, answer in zip(proposed, answers, strict=True)
        if answer.result == ContextResult.ACCEPTED
    }


def _answer(context: ProposedContext, accept_unknown: bool) -> AnsweredContext:
    uids = context.transfer_syntax_uids
    is_report = context.abstract_syntax == commitment.STORAGE_COMMITMENT
    usable = [uid for uid in uids if uid in (commitment.TRANSFER_SYNTAXES if is_report else TRANSFER_SYNTAXES)]
    if accept_unknown and not usable and not is_report:
        usable = [uid for uid in uids if _is_unknown_transfer_syntax(uid)]
    is_known = is_report or context.abstract_syntax == VERIFICATION
    if not is_known and not is_storable(context.abstract_syntax, accept_unknown=accept_unknown):
        result = ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    elif not usable:
        result = ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
    else:
        result = ContextResult.ACCEPTED
    return AnsweredContext(context.context_id, result, (usable or uids)[0])


def _is_unknown_transfer_syntax(uid: str) -> bool:
    """Return whether a UID may be a transfer syntax that is private, or newer than this program."""
    if not _is_uid(uid) or _is_named(uid) or uid.startswith(NOT_FOR_MESSAGES):
        return False
    return uid.startswith(_STANDARD_TRANSFER_SYNTAX_ROOT) or not uid.startswith(_STANDARD_ROOT)


def _is_named(uid: str) -> bool:
    """Return whether a UID is in the standard; two retired SOP classes have a UID but no name."""
    return uid in UID_dictionary and bool(UID_dictionary[uid][0])


def _is_uid(uid: str) -> bool:
    return len(uid) <= _MAX_UID_CHARACTERS and _UID.fullmatch(uid) is not None
