"""The list of studies: search, filters, page after page."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.gate.decisions import GateState, standpoints
from dicom_node.gate.documents import Terms
from dicom_node.gate.severity import VERDICTS
from dicom_node.page.errors import FormError
from dicom_node.page.queue import parse_place, place_text
from dicom_node.page.rendering import Renderer
from dicom_node.store import Place, Store, Wanted

PAGE_SIZE: Final = 50
_MODALITY: Final = re.compile(r"[A-Z0-9_]{0,16}")
_DATE: Final = re.compile(r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})")


class StudiesPage:
    """``GET /``."""

    def __init__(self, store: Store, terms: Callable[[], Terms], renderer: Renderer) -> None:
        self._store = store
        self._terms = terms
        self._renderer = renderer

    def show(self, request: Request) -> Response:
        """Return a page of studies, the latest arrival first."""
        query = request.query_params
        wanted, after, terms = wanted_of(query), place_of(query), self._terms()
        places = self._store.browsing.find(wanted, terms.for_index, after=after, limit=PAGE_SIZE + 1)
        uids = [place.study_instance_uid for place in places[:PAGE_SIZE]]
        listed = self._store.browsing.listed(uids)
        rows = self._store.studies.several(uids)
        listed = tuple(one for one in listed if one.study_instance_uid in rows)
        found = standpoints(self._store, [rows[one.study_instance_uid] for one in listed], terms.digest, terms.rules)
        shown = {name: value for name, value in query.items() if name != "after" and value}
        more = urlencode(shown | {"after": place_text(places[PAGE_SIZE - 1])}) if len(places) > PAGE_SIZE else ""
        return self._renderer.html(
            request,
            "studies.html",
            studies=list(zip(listed, found, strict=True)),
            query={name: query.get(name, "") for name in _PARAMETERS},
            states=[state.value for state in GateState],
            verdicts=sorted(VERDICTS),
            more=more,
            first=urlencode(shown) if after is not None else None,
            is_filtered=bool(shown),
        )

    def counts(self, request: Request) -> Response:
        """Return how many studies are in each state, as a piece of the page."""
        counts = self._store.browsing.count(self._terms().for_index)
        total = sum(counts.values())
        return self._renderer.html(
            request, "counts.html", counts={state.value: counts.get(state.value, 0) for state in GateState}, total=total
        )


_PARAMETERS: Final = ("q", "state", "verdict", "modality", "from", "to")


def wanted_of(query: QueryParams) -> Wanted:
    """Return what the query of a list asks for; anything that is not allowed is named."""
    return Wanted(
        text=_text(query.get("q", "")),
        states=_words("state", query.get("state", ""), [state.value for state in GateState]),
        verdicts=_words("verdict", query.get("verdict", ""), sorted(VERDICTS)),
        modality=_modality(query.get("modality", "")),
        dates=(_date("from", query.get("from", "")), _date("to", query.get("to", ""))),
    )


def place_of(query: QueryParams) -> Place | None:
    """Return the place after which a page begins."""
    text = query.get("after", "")
    place = parse_place(text)
    if text and place is None:
        raise FormError("after", text, "what a link of this list says")
    return place


def _text(text: str) -> str:
    if "\0" in text:  # PostgreSQL takes none
        raise FormError("q", text, "text without NUL")
    return text


def _words(name: str, text: str, known: list[str]) -> tuple[str, ...]:
    words = tuple(word for word in text.lower().split(",") if word)
    for word in words:
        if word not in known:
            raise FormError(name, word, f"one of {', '.join(known)}")
    return words


def _modality(text: str) -> str:
    if not _MODALITY.fullmatch(text.upper()):
        raise FormError("modality", text, "a modality such as CT")
    return text.upper()


def _date(name: str, text: str) -> str:
    found = _DATE.fullmatch(text)
    if text and not found:
        raise FormError(name, text, "a date such as 2026-03-04")
    return "".join(found.groups()) if found else ""
