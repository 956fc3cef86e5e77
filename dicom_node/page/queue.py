"""The queue of studies about which a person has to decide, the oldest first."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from dicom_node.gate.decisions import GateState
from dicom_node.gate.documents import Terms
from dicom_node.page.uids import is_uid
from dicom_node.store import Place, Store, Wanted


class ReviewQueue:
    """Studies in doubt, and blocked ones where the rules let a person release them."""

    def __init__(self, store: Store, terms: Callable[[], Terms]) -> None:
        self._store = store
        self._terms = terms

    @property
    def states(self) -> tuple[str, ...]:
        """States that a decision can change, after rules and decisions."""
        may_release_blocked = self._terms().rules.release_of_blocked == "allowed"
        return (GateState.REVIEW.value, GateState.BLOCKED.value) if may_release_blocked else (GateState.REVIEW.value,)

    def next(self, after: Place | None) -> Place | None:
        """Return the place of the study after one, the first after the last; None if nothing is to be decided."""
        found = self._find(after)
        return found or (self._find(None) if after is not None else None)

    def __len__(self) -> int:
        return sum(self._store.browsing.count(self._terms().for_index, states=self.states).values())

    def _find(self, after: Place | None) -> Place | None:
        places = self._store.browsing.find(
            Wanted(states=self.states), self._terms().for_index, after=after, limit=1, is_oldest_first=True
        )
        return places[0] if places else None


def place_text(place: Place) -> str:
    """Return a place as links carry it; `parse_place` reads it."""
    return f"{place.last_arrival_at.isoformat()}_{place.study_instance_uid}"


def parse_place(text: str) -> Place | None:
    """Return the place in a link; None if it is none."""
    moment, _, uid = text.partition("_")
    try:
        at = datetime.fromisoformat(moment)
        at_utc = at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return Place(at_utc, uid) if at.tzinfo is not None and is_uid(uid) else None
