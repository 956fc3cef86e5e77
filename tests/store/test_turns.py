"""What only one process may do at a time, on one host or on several."""

from __future__ import annotations

import pytest

from dicom_node.store import Store
from tests.new_store import StoreMaker


def test_a_turn_is_had_by_one_at_a_time(store: Store, new_store: StoreMaker) -> None:
    with new_store.again(store.data_dir) as other:
        with store.turn("count-pacs") as is_ours, other.turn("count-pacs") as is_theirs, other.turn("syslog") as more:
            assert (is_ours, is_theirs, more) == (True, False, True)
        with other.turn("count-pacs") as is_theirs:
            assert is_theirs


def test_a_turn_ends_when_its_work_fails(store: Store, new_store: StoreMaker) -> None:
    with new_store.again(store.data_dir) as other:
        with pytest.raises(ValueError, match="why"), store.turn("syslog"):
            raise ValueError("why")
        with other.turn("syslog") as is_theirs:
            assert is_theirs
