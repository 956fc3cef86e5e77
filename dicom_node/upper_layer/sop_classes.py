"""Which SOP classes are for storage: those of the standard, and what private or future ones may be.

A private UID does not say what it is for, so it counts as a storage SOP class.
"""

from __future__ import annotations

import re

from pydicom.uid import UID_dictionary  # type: ignore[attr-defined]
from pynetdicom import AllStoragePresentationContexts

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
STANDARD_ROOT = "1.2.840.10008."
_STANDARD_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."  # where new storage SOP classes are added
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)+", re.ASCII)
_MAX_UID_CHARACTERS = 64


def storage_sop_classes() -> frozenset[str]:
    """Return the UIDs of all storage SOP classes of the standard, retired, DICONDE and DICOS ones included."""
    named = {
        uid for uid, (name, kind, *_) in UID_dictionary.items() if kind == "SOP Class" and "Storage" in name
    } - NOT_FOR_C_STORE
    from_pynetdicom = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    return frozenset(named | from_pynetdicom | set(RECENT_STORAGE))


STORAGE_SOP_CLASSES = storage_sop_classes()


def is_storable(sop_class_uid: str, *, accept_unknown: bool) -> bool:
    """Return whether a SOP class is, or may be, a storage SOP class."""
    if sop_class_uid in STORAGE_SOP_CLASSES:
        return True
    if not accept_unknown or not is_uid(sop_class_uid) or is_named(sop_class_uid):
        return False
    return sop_class_uid.startswith(_STANDARD_STORAGE_ROOT) or not sop_class_uid.startswith(STANDARD_ROOT)


def is_named(uid: str) -> bool:
    """Return whether a UID is in the standard; two retired SOP classes have a UID but no name."""
    return uid in UID_dictionary and bool(UID_dictionary[uid][0])


def is_uid(uid: str) -> bool:
    """Return whether a text is a UID: digits and dots, at most 64 characters."""
    return len(uid) <= _MAX_UID_CHARACTERS and _UID.fullmatch(uid) is not None
