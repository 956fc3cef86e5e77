"""State and verdicts of a study as private keys of a query, in whatever block of group 0099 the peer puts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dicom_node.dimse.query.answers import Member, text_member
from dicom_node.dimse.query.identifier import Identifier
from dicom_node.store.index.gate_state import PRIVATE_CREATOR, PRIVATE_CREATOR_TAG, STATE_TAG, VERDICTS_TAG
from dicom_node.store.index.matches import JsonObject

_GROUP: Final = int(PRIVATE_CREATOR_TAG[:4], 16) << 16
_DEFAULT_BLOCK: Final = int(PRIVATE_CREATOR_TAG[4:], 16)
_BLOCKS: Final = range(0x10, 0x100)  # PS3.5 7.8.1
_ELEMENTS: Final = {int(tag[-2:], 16): tag for tag in (STATE_TAG, VERDICTS_TAG)}


@dataclass(frozen=True, slots=True)
class PrivateKeys:
    """Our attributes in the block of an identifier.

    Attributes
    ----------
    tags
        The tags in the identifier, with that of the private creator.
    filters
        Tag in the index → value to match.
    """

    block: int
    tags: frozenset[int]
    filters: Mapping[str, str]

    def members(self, match: JsonObject) -> dict[int, Member]:
        """Return the attributes that were asked for, in the peer's block."""
        found: dict[int, Member] = {_GROUP | self.block: text_member("LO", PRIVATE_CREATOR)}
        for tag in self.tags:
            ours = _ELEMENTS.get(tag & 0xFF)
            if tag != _GROUP | self.block and ours is not None:
                found[tag] = match.get(ours) or {"vr": "CS"}
        return found


def find_private_keys(identifier: Identifier) -> PrivateKeys | None:
    """Return our private keys in an identifier, or None; without a creator, block 10 is taken for ours."""
    creators = {
        tag & 0xFF: key.text
        for tag, key in identifier.keys.items()
        if tag & 0xFFFF0000 == _GROUP and tag & 0xFFFF in _BLOCKS
    }
    ours = [block for block, creator in creators.items() if creator == PRIVATE_CREATOR]
    if not ours and _DEFAULT_BLOCK not in creators:
        ours = [_DEFAULT_BLOCK]
    for block in ours:
        tags = {tag for tag in identifier.keys if tag >> 8 == (_GROUP | block << 8) >> 8 and tag & 0xFF in _ELEMENTS}
        if tags:
            filters = {_ELEMENTS[tag & 0xFF]: identifier.keys[tag].text or "" for tag in tags}
            return PrivateKeys(
                block, frozenset(tags | {_GROUP | block}), {tag: text for tag, text in filters.items() if text}
            )
    return None
