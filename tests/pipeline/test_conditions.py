"""What a condition in a rule asks of the values of an attribute."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from dicom_node.pipeline.conditions import Condition


def condition(**asked: Any) -> Condition:
    return Condition.model_validate(asked)


@pytest.mark.parametrize(
    ("asked", "values", "expected"),
    [
        ({"equals": "LOCALIZER"}, ("ORIGINAL", "PRIMARY", "LOCALIZER"), True),
        ({"equals": "localizer"}, ("LOCALIZER ",), True),
        ({"equals": "LOCAL"}, ("LOCALIZER",), False),
        ({"equals": 2}, ("2",), True),
        ({"in": ["CT", "MR"]}, ("MR",), True),
        ({"in": ["CT", "MR"]}, ("PT",), False),
        ({"contains": "scout"}, ("AAHead_Scout",), True),
        ({"contains": ["topogram", "scout"]}, ("Topogram 0.6",), True),
        ({"matches": "T1*3D"}, ("t1 mprage sag 3d",), True),
        ({"matches": "T1?"}, ("T1",), False),
        ({"matches": "[ND]*"}, ("[nd] axial",), True),
        ({"matches": "[ND]*"}, ("normal",), False),
        ({"exists": True}, ("anything",), True),
        ({"exists": True}, (), False),
        ({"exists": False}, (), True),
        ({"exists": False}, ("anything",), False),
        ({"at_most": 5}, ("5.0",), True),
        ({"at_most": 5}, ("5.01",), False),
        ({"at_least": 1, "at_most": 5}, ("0.5", "7"), False),  # no single value lies between
        ({"at_least": 1}, ("thick",), False),
        ({"at_least": 1}, ("nan",), False),
        ({"equals": "CT"}, (), False),
    ],
)
def test_a_condition_holds_when_one_value_meets_all_of_it(
    asked: dict[str, Any], values: tuple[str, ...], expected: bool
) -> None:
    assert condition(**asked).holds(values) is expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "asks nothing"),
        ({"exists": False, "equals": "CT"}, "stands alone"),
        ({"at_least": 3, "at_most": 2}, "no value meets both"),
        ({"equals": False}, "valid string"),  # YAML's NO
        ({"in": []}, "at least 1 item"),
    ],
)
def test_a_condition_that_cannot_be_meant_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        condition(**asked)


def test_a_pattern_takes_no_longer_for_values_that_a_sender_makes_up() -> None:
    started = time.process_time()
    assert not condition(matches="*a*a*a*a*a*a*a*a*a*a*b").holds(("a" * 10_000,))
    assert time.process_time() - started < 1.0
