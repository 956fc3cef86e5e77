"""The list of studies and the page of a study, as a reader without scripts meets them."""

from __future__ import annotations

import html
import re

import pytest

from dicom_node.store import Place, Wanted
from tests.export.clearing import NOW, export
from tests.page.conftest import SCRIPT, Node
from tests.page.serving import TERMS, Reader


def shown(text: str) -> list[str]:
    """Study Instance UIDs that a list links to, in its order."""
    return re.findall(r'data-open id="study-[0-9.]+" href="/studies/([0-9.]+)"', text)


def test_the_list_shows_every_study_with_its_state_and_the_latest_arrival_first(node: Node, reader: Reader) -> None:
    text = reader.get("/").text
    uids = shown(text)
    assert uids[0] == node.open.study_instance_uid
    assert set(uids) == {series.study_instance_uid for series in node.states.values()}
    for state in node.states:
        assert f'<span class="state {state}">{state}</span>' in text
    assert "1 of 1 series face present" in text
    assert "held by Ann: looked at" in text


@pytest.mark.parametrize("state", ["cleared", "blocked", "review", "held", "open"])
def test_a_state_selects_and_is_counted(node: Node, reader: Reader, state: str) -> None:
    assert shown(reader.get(f"/?state={state}").text) == [node.states[state].study_instance_uid]
    assert f'<span class="state {state}">{state}</span> 1</a>' in reader.get("/studies/counts").text


@pytest.mark.parametrize(
    ("query", "states"),
    [
        ({"q": "zyx"}, {"cleared", "blocked", "review", "held"}),
        ({"q": "Zyxwvut, Q"}, {"cleared", "blocked", "review", "held"}),
        ({"q": "MRN-1"}, {"cleared", "blocked", "review", "held"}),
        ({"q": "qrstu"}, set()),
        ({"q": "%"}, set()),
        ({"q": SCRIPT}, {"open"}),
        ({"verdict": "defaced"}, {"cleared", "held"}),
        ({"verdict": "defaced", "state": "held"}, {"held"}),
        ({"modality": "MR"}, set()),
        (
            {"modality": "CT", "from": "2020-01-01", "to": "2020-01-31"},
            {"cleared", "blocked", "review", "held", "open"},
        ),
        ({"from": "2020-01-03"}, set()),
    ],
)
def test_search_and_filters(node: Node, reader: Reader, query: dict[str, str], states: set[str]) -> None:
    found = shown(reader.client.get("/", params=query).text)
    assert set(found) == {node.states[state].study_instance_uid for state in states}


def test_a_study_is_found_by_its_uid_and_by_that_of_its_series(node: Node, reader: Reader) -> None:
    for uid in (node.review.study_instance_uid, node.review.series_instance_uid):
        assert shown(reader.get(f"/?q={uid}").text) == [node.review.study_instance_uid]


def test_pages_follow_each_other_without_gap_or_repeat(node: Node) -> None:
    terms, found, after = TERMS.for_index, [], None
    while page := node.store.browsing.find(Wanted(), terms, after=after, limit=2):
        found += [place.study_instance_uid for place in page]
        after = page[-1]
    assert len(found) == len(set(found)) == len(node.states)
    assert node.store.browsing.find(Wanted(), terms, after=Place(NOW, ""), limit=9)  # equal times are not skipped


def test_a_page_far_down_is_found_by_an_index(node: Node) -> None:
    import sqlalchemy as sa

    with node.store._database.read() as connection:
        asked: list[str] = []
        sa.event.listen(connection, "before_cursor_execute", lambda *args: asked.append(args[2]))
        node.store.browsing.find(Wanted(), TERMS.for_index, after=Place(NOW, ""), limit=2)
        statement = (
            "SELECT 1 FROM studies WHERE last_arrival_at <= 'x' ORDER BY last_arrival_at DESC, study_instance_uid"
        )
        plan = connection.execute(sa.text(f"EXPLAIN QUERY PLAN {statement}")).all()
    assert "ix_studies_last_arrival_at" in str(plan)


@pytest.mark.parametrize(
    "query",
    [
        "q=a%00b",
        "state=fine",
        "verdict=x",
        "modality=%3Cb%3E",
        "from=yesterday",
        "from=%EF%BC%92026-01-01",  # a digit that is not of ASCII
        "after=x",
        "after=2026-01-01T00:00:00_1",
        "after=2026-01-01T00:00:00%2B00:00_a%00",
        "after=0001-01-01T00:00:00%2B14:00_1.2",  # before the first moment of UTC
    ],
)
def test_a_query_that_is_not_allowed_is_named(node: Node, reader: Reader, query: str) -> None:
    answer = reader.get(f"/?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert query.partition("=")[0] in answer.text
    assert "expected" in answer.text


@pytest.mark.parametrize("path", ["/series/1.2.3/pictures/%C2%B2/overlay.png", "/studies/1.2%C2%B2"])
def test_a_superscript_is_no_number_in_an_address(node: Node, reader: Reader, path: str) -> None:
    assert reader.get(path).status_code == 400


@pytest.mark.parametrize("volume", ["%C2%B2", "9" * 5000, "-1"])
def test_a_volume_that_is_no_number_is_the_first(node: Node, reader: Reader, volume: str) -> None:
    assert reader.get(f"/review/{node.review.study_instance_uid}?volume={volume}").status_code == 200


def test_a_study_shows_what_was_found_sent_and_exported(
    node: Node, reader: Reader, tmp_path_factory: pytest.TempPathFactory
) -> None:
    export(node.store, tmp_path_factory.mktemp("out"), cohort=[node.cleared.study_instance_uid])
    text = html.unescape(reader.get(f"/studies/{node.cleared.study_instance_uid}").text)
    assert "Zyxwvut, Qrstu" in text
    assert "1 of 1 series defaced" in text
    assert "probability 0.90" in text
    assert "SEG <span" in text
    assert "HEADS" in text
    assert "published" in text


@pytest.mark.parametrize(
    ("path", "status"), [("/studies/1.2.3", 404), ("/studies/x", 400), ("/assets/../routes.py", 404)]
)
def test_what_is_not_there_is_a_page_that_says_so(node: Node, reader: Reader, path: str, status: int) -> None:
    assert reader.get(path).status_code == status


def test_scripts_of_senders_are_text(node: Node, reader: Reader) -> None:
    for path in ("/", f"/studies/{node.open.study_instance_uid}"):
        answer = reader.get(path)
        assert SCRIPT not in answer.text
        assert SCRIPT in html.unescape(answer.text)
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy


def test_a_study_that_goes_while_it_is_listed_is_left_out(node: Node) -> None:
    uids = [node.cleared.study_instance_uid, "1.2.3"]
    assert [one.study_instance_uid for one in node.store.browsing.listed(uids)] == uids[:1]


def test_counts_go_by_decisions_and_rules_of_now(node: Node) -> None:
    counts = node.store.browsing.count(TERMS.for_index)
    assert counts == {"cleared": 1, "blocked": 1, "review": 1, "held": 1, "open": 1}
    assert node.store.browsing.count(TERMS.for_index, states=("review",)) == {"review": 1}
