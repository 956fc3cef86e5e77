"""Series of a modality: few of them are found by an index, many are met soon in the order of the answer.

SQLite has no statistics and cannot tell the two apart, so this module counts, but never further than `MAX_RARE`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from dicom_node.store.schema import series
from dicom_node.store.statements import DriverStatement

MAX_RARE: Final = 1000
"""So many series at most have a rare modality; to look them all up takes some milliseconds."""
MODALITY_KEYWORDS: Final = frozenset({"Modality", "ModalitiesInStudy"})
_SELECTIVE: Final = frozenset(
    {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "AccessionNumber", "PatientID"}
)  # whatever the modality, these leave little to look at
_FIRST: Final = (
    sa.select(series.c.series_instance_uid)
    .where(series.c.modality == sa.bindparam("modality"))
    .limit(MAX_RARE + 1)
    .subquery()
)
_COUNT: Final = DriverStatement(sa.select(sa.func.count()).select_from(_FIRST))


def is_rare(connection: sa.Connection, filters: Mapping[str, str | tuple[str, ...]]) -> bool:
    """Return whether a query is best begun with the modalities that it asks for, because few series have them."""
    if not _SELECTIVE.isdisjoint(filters):
        return False
    values = [filters[keyword] for keyword in sorted(MODALITY_KEYWORDS & filters.keys())]
    asked = {
        modality
        for value in values
        for one in ((value,) if isinstance(value, str) else value)
        for modality in re.split(r"[,\\]", one)
    }
    if not asked or any(letter in modality for modality in asked for letter in "*?"):
        return False
    n_series = 0
    for modality in asked:
        row = _COUNT.first_row(connection, {"modality": modality})
        n_series += row[0] if row is not None else 0
        if n_series > MAX_RARE:
            return False
    return True
