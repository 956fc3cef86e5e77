"""A node with studies in every state, one of them with a script in every text, and a browser to look at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import pytest
from playwright.sync_api import Browser
from pydicom import Dataset

from dicom_node.store import DecisionKind, Store
from tests.arrivals import receive
from tests.browser import start_browser
from tests.export.clearing import NOW, looked_at, say
from tests.factories import SyntheticSeries, ct_series
from tests.new_store import NewStore
from tests.page.serving import Reader, serve_page

SCRIPT = '<script>document.title="owned"</script>'
LATER = NOW + timedelta(hours=1)


@dataclass(frozen=True)
class Node:
    """A node that serves its page; a study for each state."""

    url: str
    store: Store
    cleared: SyntheticSeries
    blocked: SyntheticSeries
    review: SyntheticSeries
    held: SyntheticSeries
    open: SyntheticSeries

    def another(self, verdict: str = "indeterminate") -> str:
        """Study Instance UID of one more study, with a series of this verdict."""
        return looked_at(self.store, verdict, uuid4().hex, with_seg=False).study_instance_uid

    @property
    def states(self) -> dict[str, SyntheticSeries]:
        return {name: getattr(self, name) for name in ("cleared", "blocked", "review", "held", "open")}


def hostile(ds: Dataset, _: int) -> None:
    """Scripts wherever a sender can write them."""
    ds.PatientName = f"Eve^{SCRIPT}"
    ds.PatientID = ds.StudyDescription = ds.SeriesDescription = SCRIPT
    ds.AccessionNumber = "<b>A1</b>"


@pytest.fixture(scope="module")
def node(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Tests that change a study make one of their own, with `Node.another`."""
    with new_store(tmp_path_factory.mktemp("node")) as store:
        studies = {
            "cleared": looked_at(store, "defaced", "cleared"),
            "blocked": looked_at(store, "face_present", "blocked", with_seg=False),
            "review": looked_at(store, "indeterminate", "review", with_seg=False),
            "held": looked_at(store, "defaced", "held", with_seg=False),
            "open": ct_series(n_slices=2, seed="open", edit=hostile),
        }
        receive(store, studies["open"], at=LATER)
        say(store, studies["held"], DecisionKind.HOLD)
        with serve_page(store, {"web": {"upload": True}}) as url:
            yield Node(url, store, **studies)


@pytest.fixture
def reader(node: Node) -> Iterator[Reader]:
    with Reader(node.url) as reading:
        yield reading


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with start_browser() as started:
        yield started
