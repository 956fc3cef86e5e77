"""The date that objects of an offline run carry."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydicom.dataset import Dataset

from dicom_node.offline.written_at import UNKNOWN, newest_date


def header(**attributes: str) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def test_the_newest_of_all_dates_counts() -> None:
    headers = [
        header(StudyDate="20200102", StudyTime="080000", ContentDate="20200102", ContentTime="081530.250"),
        header(StudyDate="20200102", StudyTime="080000", ContentDate="20200102", ContentTime="081531"),
    ]

    assert newest_date(headers) == datetime(2020, 1, 2, 8, 15, 31, tzinfo=UTC)


def test_the_source_time_zone_is_kept() -> None:
    moment = newest_date([header(StudyDate="20200102", StudyTime="0800", TimezoneOffsetFromUTC="-0330")])

    assert moment == datetime(2020, 1, 2, 8, 0, tzinfo=timezone(-timedelta(hours=3, minutes=30)))


def test_a_date_without_a_time_is_midnight() -> None:
    assert newest_date([header(SeriesDate="19990430")]) == datetime(1999, 4, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "attributes", [{}, {"StudyDate": ""}, {"StudyTime": "080000"}, {"TimezoneOffsetFromUTC": "+9999"}]
)
def test_a_source_without_dates_is_said_to_be_of_1970(attributes: dict[str, str]) -> None:
    assert newest_date([header(**attributes)]) == UNKNOWN


def test_a_damaged_date_is_passed_over() -> None:
    ds = header(StudyDate="20200102", StudyTime="080000")
    ds.add_new("ContentDate", "LO", "yesterday")

    assert newest_date([ds]) == datetime(2020, 1, 2, 8, 0, tzinfo=UTC)
