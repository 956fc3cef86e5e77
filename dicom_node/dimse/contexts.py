"""Presentation contexts: every storage SOP class, in every transfer syntax that we can keep (PS3.8 9.3.2.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from pydicom.uid import UID_dictionary  # type: ignore[attr-defined]
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts
from pynetdicom.presentation import VerificationPresentationContexts

# Storage SOP classes by name, which are no composite instances sent by C-STORE.
NOT_FOR_C_STORE = frozenset(
    {
        "1.2.840.10008.1.3.10",  # Media Storage Directory
        "1.2.840.10008.1.20.1",  # Storage Commitment Push Model
        "1.2.840.10008.1.20.2",  # Storage Commitment Pull Model
    }
)
# Known to the standard, in case that the installed pydicom and pynetdicom are older.
RECENT_STORAGE = (
    "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation
    "1.2.840.10008.5.1.4.1.1.66.8",  # Height Map Segmentation
)
RECENT_TRANSFER_SYNTAXES = (
    "1.2.840.10008.1.2.4.110",  # JPEG XL Lossless
    "1.2.840.10008.1.2.4.111",  # JPEG XL JPEG Recompression
    "1.2.840.10008.1.2.4.112",  # JPEG XL
)
# No dataset in a message has them: SMPTE ST 2110 streams, MIME and XML encodings, Papyrus files.
NOT_FOR_MESSAGES = ("1.2.840.10008.1.2.7.", "1.2.840.10008.1.2.6.", "1.2.840.10008.1.20")


class ContextResult(IntEnum):
    """Result of a proposed presentation context (PS3.8 table 9-18)."""

    ACCEPTED = 0x00
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 0x03
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 0x04


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context as the requestor proposes it."""

    context_id: int
    abstract_syntax: str
    transfer_syntax_uids: tuple[str, ...]  # as the requestor lists them, at least one


@dataclass(frozen=True, slots=True)
class AnsweredContext:
    """What we say to a proposed context."""

    proposed: ProposedContext
    result: ContextResult
    transfer_syntax_uid: str  # not significant in a rejection, but has to be there


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """A presentation context that requestor and acceptor agreed on."""

    context_id: int
    abstract_syntax: str
    transfer_syntax_uid: str


def storage_sop_classes() -> frozenset[str]:
    """UIDs of every storage SOP class of the standard, retired ones and DICONDE's and DICOS's too."""
    named = {
        uid for uid, (name, kind, *_) in UID_dictionary.items() if kind == "SOP Class" and "Storage" in name
    } - NOT_FOR_C_STORE
    from_pynetdicom = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    return frozenset(named | from_pynetdicom | set(RECENT_STORAGE))


def transfer_syntaxes() -> frozenset[str]:
    """UIDs of every transfer syntax in which a dataset may come; the bytes are kept, nothing is decoded here."""
    named = {uid for uid, (_, kind, *_) in UID_dictionary.items() if kind == "Transfer Syntax"}
    known = named | {str(uid) for uid in ALL_TRANSFER_SYNTAXES} | set(RECENT_TRANSFER_SYNTAXES)
    return frozenset(uid for uid in known if not uid.startswith(NOT_FOR_MESSAGES))


STORAGE_SOP_CLASSES = storage_sop_classes()
ABSTRACT_SYNTAXES = STORAGE_SOP_CLASSES | {str(context.abstract_syntax) for context in VerificationPresentationContexts}
TRANSFER_SYNTAXES = transfer_syntaxes()


def negotiate_contexts(proposed: Iterable[ProposedContext]) -> tuple[AnsweredContext, ...]:
    """Answer each proposed context; of several transfer syntaxes the first that we know, as the requestor lists them.

    The requestor lists what it prefers first, and its preference is most likely what the object is stored in, so that
    nothing has to be transcoded on the way.
    """
    return tuple(_answer(context) for context in proposed)


def accepted_contexts(answers: Iterable[AnsweredContext]) -> Mapping[int, AcceptedContext]:
    """Accepted contexts by their ID."""
    return {accepted.context_id: accepted for accepted in _accepted(answers)}


def _answer(context: ProposedContext) -> AnsweredContext:
    known = [uid for uid in context.transfer_syntax_uids if uid in TRANSFER_SYNTAXES]
    if context.abstract_syntax not in ABSTRACT_SYNTAXES:
        result = ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    elif not known:
        result = ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
    else:
        result = ContextResult.ACCEPTED
    return AnsweredContext(context, result, (known or context.transfer_syntax_uids)[0])


def _accepted(answers: Iterable[AnsweredContext]) -> Iterator[AcceptedContext]:
    for answer in answers:
        if answer.result is ContextResult.ACCEPTED:
            yield AcceptedContext(
                answer.proposed.context_id, answer.proposed.abstract_syntax, answer.transfer_syntax_uid
            )
