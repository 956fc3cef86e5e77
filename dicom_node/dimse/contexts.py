"""Decide which presentation contexts to accept: all that can be stored, since bytes are kept and not decoded.

The standard's storage SOP classes and transfer syntaxes are always accepted. Beyond them, vendors have classes of their
own (Siemens CSA Non-Image) and transfer syntaxes of their own (GE, Philips), and the standard adds new ones. A sender
often stops its whole job at the first object that it cannot send, so these are accepted too, unless the setting
``dimse.accept_unknown_uids`` is off. A private UID does not say what it is for: it counts as a storage SOP class,
and any other operation on it is answered with 0x0211.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, UID_dictionary  # type: ignore[attr-defined]
from pynetdicom import ALL_TRANSFER_SYNTAXES

from dicom_node.dimse.query.models import QUERY_MODELS
from dicom_node.upper_layer import commitment
from dicom_node.upper_layer.associate import Roles
from dicom_node.upper_layer.presentation import AnsweredContext, ContextResult, ProposedContext
from dicom_node.upper_layer.sop_classes import STANDARD_ROOT, is_named, is_storable, is_uid

VERIFICATION = "1.2.840.10008.1.1"
RECENT_TRANSFER_SYNTAXES = (
    "1.2.840.10008.1.2.4.110",  # JPEG XL Lossless
    "1.2.840.10008.1.2.4.111",  # JPEG XL JPEG Recompression
    "1.2.840.10008.1.2.4.112",  # JPEG XL
)
# Not used for datasets in messages: SMPTE ST 2110 streams, MIME and XML encodings, Papyrus files.
NOT_FOR_MESSAGES = ("1.2.840.10008.1.2.7.", "1.2.840.10008.1.2.6.", "1.2.840.10008.1.20")
PLAIN_TRANSFER_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_STANDARD_TRANSFER_SYNTAX_ROOT = "1.2.840.10008.1.2."


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """A presentation context that requestor and acceptor agreed on."""

    context_id: int
    abstract_syntax: str
    transfer_syntax_uid: str

    @property
    def is_for_storage(self) -> bool:
        """Whether C-STORE may use it."""
        return self.abstract_syntax not in (VERIFICATION, commitment.STORAGE_COMMITMENT, *QUERY_MODELS)


def transfer_syntaxes() -> frozenset[str]:
    """Return the UIDs of all transfer syntaxes of the standard that a dataset may have."""
    named = {uid for uid, (_, kind, *_) in UID_dictionary.items() if kind == "Transfer Syntax"}
    known = named | {str(uid) for uid in ALL_TRANSFER_SYNTAXES} | set(RECENT_TRANSFER_SYNTAXES)
    return frozenset(uid for uid in known if not uid.startswith(NOT_FOR_MESSAGES))


TRANSFER_SYNTAXES = transfer_syntaxes()


def negotiate_contexts(
    proposed: Iterable[ProposedContext],
    *,
    accept_unknown: bool,
    permitted: Collection[str] | None = None,
    for_c_get: Collection[str] = (),
) -> tuple[AnsweredContext, ...]:
    """Answer each proposed context.

    Of several transfer syntaxes, the first in the requestor's list that is in the standard is chosen: most likely the
    object is stored in it, so that the sender need not transcode. One outside the standard is chosen
    only if there is no other, because few receivers can decode it.

    Parameters
    ----------
    permitted
        SOP classes of query and retrieve that the requestor may use; None: they are not supported.
    for_c_get
        Storage SOP classes that the requestor wants to get. Plain encodings are preferred for them, because everything
        can be decoded for it, and nothing is compressed for it.
    """
    return tuple(_answer(context, accept_unknown, permitted, for_c_get) for context in proposed)


def grant_roles(proposed: Iterable[Roles], *, wanted: Collection[str] = ()) -> tuple[Roles, ...]:
    """Grant a requestor to report on storage commitment, as the SCP; to all else the default roles apply.

    A requestor that may use C-GET is also granted to be the SCP of the storage SOP classes that it wants.
    """
    return tuple(
        Roles(roles.sop_class_uid, is_scu=roles.is_scu and not is_report, is_scp=roles.is_scp)
        for roles in proposed
        if (is_report := roles.sop_class_uid == commitment.STORAGE_COMMITMENT) or roles.sop_class_uid in wanted
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


def _answer(
    context: ProposedContext, accept_unknown: bool, permitted: Collection[str] | None, for_c_get: Collection[str]
) -> AnsweredContext:
    uids = context.transfer_syntax_uids
    is_query = permitted is not None and context.abstract_syntax in QUERY_MODELS
    is_decoded = is_query or context.abstract_syntax == commitment.STORAGE_COMMITMENT
    usable = [uid for uid in uids if uid in (commitment.TRANSFER_SYNTAXES if is_decoded else TRANSFER_SYNTAXES)]
    if accept_unknown and not usable and not is_decoded:
        usable = [uid for uid in uids if _is_unknown_transfer_syntax(uid)]
    is_known = is_decoded or context.abstract_syntax == VERIFICATION
    if is_query and context.abstract_syntax not in (permitted or ()):
        result = ContextResult.USER_REJECTION
    elif not is_known and not is_storable(context.abstract_syntax, accept_unknown=accept_unknown):
        result = ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    elif not usable:
        result = ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
    else:
        result = ContextResult.ACCEPTED
    if context.abstract_syntax in for_c_get:
        usable = [uid for uid in PLAIN_TRANSFER_SYNTAXES if uid in usable] or usable
    return AnsweredContext(context.context_id, result, (usable or uids)[0])


def _is_unknown_transfer_syntax(uid: str) -> bool:
    """Return whether a UID may be a transfer syntax that is private, or newer than this program."""
    if not is_uid(uid) or is_named(uid) or uid.startswith(NOT_FOR_MESSAGES):
        return False
    return uid.startswith(_STANDARD_TRANSFER_SYNTAX_ROOT) or not uid.startswith(STANDARD_ROOT)
