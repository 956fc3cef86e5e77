"""A date and its time are one moment, in the time zone of the query (PS3.4 C.2.2.2.5)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import pytest

from dicom_node.store import Store
from tests.store.conftest import store_maker
from tests.store.sending import instance, keep

STUDIES = {  # date, time, offset from UTC
    "1.1": ("20240105", "235959.5", ""),
    "1.2": ("20240106", "0000", "+0000"),
    "1.3": ("20240106", "013000", "+0200"),  # half past eleven of the day before, in UTC
    "1.4": ("20240106", "12", "-0500"),
    "1.5": ("20240106", "", ""),
    "1.6": ("", "120000", ""),
}


@pytest.fixture(scope="module")
def store(database: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("moments")
    with store_maker(database, request) as new_store, new_store(folder) as store:
        for uid, (date, time, zone) in STUDIES.items():
            more = {"TimezoneOffsetFromUTC": zone} if zone else {}
            keep(store, instance(1, study=uid, series=f"{uid}.1", StudyDate=date, StudyTime=time, **more))
        yield store


def found(store: Store, **filters: str) -> set[str]:
    answers = [
        store.search.search_studies(filters, is_combined=True),
        store.search.search_series(filters, is_combined=True),
        store.search.search_instances(filters, is_combined=True),
    ]
    one, *others = [{match["0020000D"]["Value"][0].removeprefix("2.25.") for match in answer} for answer in answers]
    assert all(other == one for other in others)
    return one


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("20240105-20240106", "2300-0100", {"1.1", "1.2", "1.5"}),
        ("20240105-20240106", "235959.6-1159", {"1.2", "1.3", "1.5"}),
        ("20240106-", "1200-", {"1.4"}),
        ("-20240105", "-2359", {"1.1"}),
        ("-20240105", "-235958", set()),
        ("20240106", "01-12", {"1.3", "1.4"}),
        ("20240106", "", {"1.2", "1.3", "1.4", "1.5"}),
        ("", "12-", {"1.1", "1.4", "1.6"}),
    ],
)
def test_a_range_goes_from_the_first_moment_to_the_last(store: Store, date: str, time: str, expected: set[str]) -> None:
    assert found(store, **{name: text for name, text in (("StudyDate", date), ("StudyTime", time)) if text}) == expected


@pytest.mark.parametrize("zone", ["+0000", "+0200", "-0930", "+1245"])
def test_moments_are_those_of_the_zone_of_the_query(store: Store, zone: str) -> None:
    """Against Python's own aware datetimes, hour by hour; a study without an offset is in the zone of the query."""
    own = timezone(offset(zone))
    moments = {
        uid: datetime.strptime(f"{date}{time[:6]:0<6}", "%Y%m%d%H%M%S").replace(
            tzinfo=timezone(offset(zone_of_study)) if zone_of_study else own
        )
        for uid, (date, time, zone_of_study) in STUDIES.items()
        if date
    }
    hours = [datetime(2024, 1, 5, 12, tzinfo=own) + timedelta(hours=4 * n) for n in range(12)]
    for first, end in pairwise(hours):
        last = end - timedelta(seconds=1)
        expected = {uid for uid, moment in moments.items() if first <= moment <= last}
        asked = {
            "StudyDate": f"{first:%Y%m%d}-{last:%Y%m%d}",
            "StudyTime": f"{first:%H%M%S}-{last:%H%M%S}",
            "TimezoneOffsetFromUTC": zone,
        }
        assert found(store, **asked) == expected, asked


def test_a_day_is_a_day_of_the_zone(store: Store) -> None:
    assert found(store, StudyDate="20240105", TimezoneOffsetFromUTC="+0000") == {"1.1", "1.3"}


def offset(zone: str) -> timedelta:
    minutes = int(zone[1:3]) * 60 + int(zone[3:])
    return timedelta(minutes=-minutes if zone[0] == "-" else minutes)
