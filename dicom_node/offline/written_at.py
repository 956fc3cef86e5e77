"""The date that an offline run's objects carry.

A job of the node has a time of its own; a run over a folder has no time that a second run would share, yet the same
input must produce the same bytes. So the objects carry the newest date of their source (docs/decisions/0080).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM

from sr_writer.time_zone import source_time_zone

UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)

_DATE_AND_TIME = (
    ("InstanceCreationDate", "InstanceCreationTime"),
    ("ContentDate", "ContentTime"),
    ("AcquisitionDate", "AcquisitionTime"),
    ("SeriesDate", "SeriesTime"),
    ("StudyDate", "StudyTime"),
)


def newest_date(headers: Sequence[Dataset]) -> datetime:
    """Return the newest date and time in the headers, to the second; 1970 if they have none."""
    return max((moment for header in headers for moment in _moments(header)), default=UNKNOWN)


def _moments(header: Dataset) -> Iterable[datetime]:
    zone = source_time_zone(header) or UTC
    for date_keyword, time_keyword in _DATE_AND_TIME:
        try:
            date = DA(str(header.get(date_keyword) or "") or None)
            time = TM(str(header.get(time_keyword) or "") or None)
        except ValueError:
            continue
        if date is not None:
            clock = time.replace(microsecond=0, tzinfo=None) if time is not None else datetime.min.time()
            yield datetime.combine(date, clock, tzinfo=zone)
