"""Refusals in the audit trail; whoever repeats a refusal, in whatever variations, cannot fill it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from dicom_node.access.seldom import Seldom
from dicom_node.store import Store, StoreError

log = logging.getLogger(__name__)

PERIOD_S: Final = 60.0  # between two entries on the same refusal
MAX_OF_SOURCE: Final = 120  # entries in an hour about one address or person
MAX_IN_ALL: Final = 600
MAX_CHARACTERS: Final = 200


class Refusals:
    """Writes refused requests into the audit trail: who, from where, what and why.

    The same refusal leaves one entry a minute, with its number (``times``). What is beyond `MAX_OF_SOURCE` entries
    about one source in an hour, or `MAX_IN_ALL` about all, is counted in ``others`` of a later entry.
    """

    def __init__(
        self, store: Store, clock: Callable[[], datetime], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._clock, self._monotonic = clock, monotonic
        self._seldom = Seldom(PERIOD_S, max_of_source=MAX_OF_SOURCE, max_in_all=MAX_IN_ALL)

    def note(self, action: str, *, actor: str, subject: str, source: str, detail: Mapping[str, Any]) -> None:
        """Add an entry, unless there is one on the same refusal or there are many others.

        Parameters
        ----------
        source
            The address, or the person, who can repeat it.
        detail
            Further facts; a refusal with other ones is still the same.
        """
        due = self._seldom.count((action, actor, subject, source), self._monotonic(), source=source)
        if due is None:
            return
        facts = {name: value[:MAX_CHARACTERS] if isinstance(value, str) else value for name, value in detail.items()}
        try:
            self._store.audit.record(
                action,
                actor=actor[:MAX_CHARACTERS],
                subject=subject[:MAX_CHARACTERS],
                now=self._clock(),
                detail={**facts, **due.detail},
            )
        except StoreError as error:  # refused in any case
            log.error("a refusal is not in the audit trail: %s", error, extra={"action": action})  # noqa: TRY400
