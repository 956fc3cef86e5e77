"""Match dates and times that belong together as moments, in the time zone of the query (PS3.4 C.2.2.2.5).

Ranges of a date and of its time mean one range, from the first date at the first time to the last date at the last
time. With a time zone in the query, moments of studies that say in which zone theirs are, are converted; others are
taken to be in the zone of the query.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from dicom_node.store.index.kept_values import extracted_text
from dicom_node.store.schema import series, studies

Condition = sa.ColumnElement[bool]
TIMEZONE: Final = "TimezoneOffsetFromUTC"
_ZONE_OF_STUDY: Final = extracted_text(studies.c.attributes, ("00080201", "Value", 0))
_PAIRS: Final[Mapping[str, tuple[str, sa.Column[str], sa.Column[str]]]] = {
    "StudyDate": ("StudyTime", studies.c.study_date, studies.c.study_time),
    "PerformedProcedureStepStartDate": (
        "PerformedProcedureStepStartTime",
        series.c.performed_procedure_step_start_date,
        series.c.performed_procedure_step_start_time,
    ),
}
_DATE: Final = re.compile(r"\d{8}")
_TIME: Final = re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")
_ZONE: Final = re.compile(r"[+-](?:0\d|1[0-4])[0-5]\d")
_EARLIEST, _LATEST = "000000.000000", "235959.999999"


def is_zone(text: str) -> bool:
    """Return whether a text is an offset from UTC such as ``+0100`` (PS3.3 C.12.1.1.8)."""
    return _ZONE.fullmatch(text) is not None


def take_moments(
    filters: MutableMapping[str, str | tuple[str, ...]],
    searchable: Collection[str],
    *,
    is_combined: bool,
    zones: Sequence[str],
) -> list[Condition]:
    """Take dates and times that are matched together out of ``filters``, and return their conditions.

    Parameters
    ----------
    searchable
        Keywords that the query may filter by.
    is_combined
        A date and its time are one moment; otherwise only those that a time zone concerns are taken out.
    zones
        Offsets from UTC that studies have.
    """
    zone = filters.get(TIMEZONE)
    found = []
    for date_keyword, (time_keyword, date, time) in _PAIRS.items():
        asked_date, asked_time = filters.get(date_keyword), filters.get(time_keyword, "")
        if not isinstance(asked_date, str) or not isinstance(asked_time, str) or not (is_combined or zone):
            continue
        if date_keyword not in searchable:
            continue
        bounds = _bounds(asked_date, asked_time if is_combined else "")
        if bounds is None or not (zone or (asked_time and "-" in asked_date + asked_time)):
            continue
        filters.pop(date_keyword)
        if is_combined:
            filters.pop(time_keyword, None)
        if isinstance(zone, str):
            found.append(_in_zones(date, time, bounds, zone, zones))
        else:
            found.append(_between(date, time, *bounds))
    if found or zone:
        filters.pop(TIMEZONE, None)
    return found


def zones_of(connection: sa.Connection) -> list[str]:
    """Return the offsets from UTC that studies have."""
    return [zone for zone in connection.execute(sa.select(_ZONE_OF_STUDY).distinct()).scalars() if zone]


def _bounds(date: str, time: str) -> tuple[str, str] | None:
    """Return the first and the last moment, empty where there is no bound; None if it is no range of moments."""
    first_date, _, last_date = date.partition("-") if "-" in date else (date, "", date)
    first_time, _, last_time = time.partition("-") if "-" in time else (time, "", time)
    if not all(not one or _DATE.fullmatch(one) for one in (first_date, last_date)) or not (first_date or last_date):
        return None
    if not all(not one or _TIME.fullmatch(one) for one in (first_time, last_time)):
        return None
    first = first_date + first_time + _EARLIEST[len(first_time) :] if first_date else ""
    last = last_date + _filled(last_time) if last_date else ""
    return first, last


def _filled(time: str) -> str:
    """Return the last moment that a time of any precision means."""
    return time + _LATEST[len(time) :]


def _between(date: sa.Column[str], time: sa.Column[str], first: str, last: str) -> Condition:
    """Compare as text; a moment of less precision is its beginning."""
    moment = date + sa.func.coalesce(time, "")
    padded = moment + sa.func.substr(sa.literal(_EARLIEST, sa.Text()), sa.func.length(moment) - 7)
    conditions = [date != ""]
    if first:
        conditions += [date >= first[:8], padded >= first]
    if last:
        conditions += [date <= last[:8], padded <= last]
    return sa.and_(*conditions)


def _in_zones(
    date: sa.Column[str], time: sa.Column[str], bounds: tuple[str, str], zone: str, zones: Sequence[str]
) -> Condition:
    others = [other for other in zones if is_zone(other) and other != zone]
    found = [sa.and_(sa.func.coalesce(_ZONE_OF_STUDY, "").not_in(others), _between(date, time, *bounds))]
    for other in others:
        shift = _offset(other) - _offset(zone)
        shifted = [_shifted(moment, shift) for moment in bounds]
        found.append(sa.and_(_ZONE_OF_STUDY.in_([other]), _between(date, time, *shifted)))
    return sa.or_(*found)


def _offset(zone: str) -> timedelta:
    minutes = 60 * int(zone[1:3]) + int(zone[3:5])
    return timedelta(minutes=-minutes if zone[0] == "-" else minutes)


def _shifted(moment: str, shift: timedelta) -> str:
    if not moment:
        return ""
    try:
        return f"{datetime.strptime(moment, '%Y%m%d%H%M%S.%f') + shift:%Y%m%d%H%M%S.%f}"  # noqa: DTZ007
    except (ValueError, OverflowError):  # no date of the calendar
        return moment
