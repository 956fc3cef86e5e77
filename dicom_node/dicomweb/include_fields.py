"""Attributes that a search asks for and the index does not hold, from the kept metadata (PS3.18 8.3.4.3)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydicom.datadict import tag_for_keyword

from dicom_node.dicomweb.dicom_json import Memo
from dicom_node.dicomweb.errors import UnreadableObjectError
from dicom_node.dicomweb.kept_metadata import KeptMetadata
from dicom_node.store.index.search import Search

MAX_ENRICHED: Final = 200  # results of one search that are read from metadata: computing takes milliseconds for each
_ALL: Final = "all"
_UIDS: Final = (("00080018", "SOPInstanceUID"), ("0020000E", "SeriesInstanceUID"), ("0020000D", "StudyInstanceUID"))
_BULK: Final = "BulkDataURI"


@dataclass(frozen=True, slots=True)
class IncludeFields:
    """What ``includefield`` asks for.

    Attributes
    ----------
    tags
        Eight hexadecimal digits each; those that the index holds are there anyway.
    is_all
        Everything that the metadata of an instance have.
    """

    tags: frozenset[str]
    is_all: bool = False

    def __bool__(self) -> bool:
        return bool(self.tags) or self.is_all


def parse_include_fields(values: Sequence[str]) -> tuple[IncludeFields, list[str]]:
    """Return what is asked for, and the names that are no attributes."""
    tags, unknown, is_all = set[str](), [], False
    for name in (name.strip() for value in values for name in value.split(",")):
        tag = name.upper() if len(name) == 8 and _is_hexadecimal(name) else ""
        known = tag_for_keyword(name) if name and not tag else None
        if name.lower() == _ALL:
            is_all = True
        elif tag or known is not None:
            tags.add(tag or f"{known:08X}")
        elif name:
            unknown.append(name)
    return IncludeFields(frozenset(tags), is_all), unknown


def _creator_of(tag: str) -> str:
    """Return the tag of the private creator of a private attribute (PS3.5 7.8.1), or the attribute's own."""
    return f"{tag[:4]}00{tag[4:6]}" if int(tag[3], 16) % 2 and tag[4:6] != "00" else tag


def _is_hexadecimal(text: str) -> bool:
    return all(letter in "0123456789abcdefABCDEF" for letter in text)


class Enricher:
    """Adds to the results of a search what is asked for, from the metadata of their first instances."""

    def __init__(self, search: Search, metadata: KeptMetadata) -> None:
        self._search = search
        self._metadata = metadata

    def enriched(self, results: Iterator[dict[str, Any]], fields: IncludeFields) -> Iterator[dict[str, Any]]:
        """Yield results, the first `MAX_ENRICHED` with further attributes; bulk data are never among them."""
        memo = Memo()
        for number, result in enumerate(results):
            is_instance = "00080018" in result
            wants_more = fields.tags - result.keys() or (fields.is_all and is_instance)
            if number >= MAX_ENRICHED or not wants_more:
                yield result
                continue
            found = self._metadata_of(result, memo)
            wanted = fields.tags | {_creator_of(tag) for tag in fields.tags if tag in found}
            added = {
                tag: member
                for tag, member in found.items()
                if _BULK not in member and (tag in wanted or (fields.is_all and is_instance))
            }
            yield dict(sorted((added | result).items()))

    def _metadata_of(self, result: Mapping[str, Any], memo: Memo) -> dict[str, Any]:
        tag, keyword = next((tag, keyword) for tag, keyword in _UIDS if tag in result)
        uid = str(result[tag]["Value"][0])
        for first in self._search.search_instances({keyword: uid}, limit=1):
            rows = self._search.find_instances(sop_instance_uid=first["00080018"]["Value"][0])
            try:
                return dict(json.loads(self._metadata.encoded(rows[0], memo))) if rows else {}
            except UnreadableObjectError:
                return {}
        return {}
