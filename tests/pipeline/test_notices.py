"""Targets are told what holds now: in order, once, and first of all that an earlier state holds no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from dicom_node.gate.decisions import decide
from dicom_node.gate.judging import study_decision
from dicom_node.gate.rules import StudyRules, gate_digest
from dicom_node.peers import StudyNotice
from dicom_node.peers.errors import HttpRefusedError, PeerUnreachableError, StudyNotThereError
from dicom_node.pipeline.notices import NoticeOutbox, Standings, announce_states, mark_outdated_states
from dicom_node.pipeline.retry import RetryPolicy
from dicom_node.settings import WebhookTarget
from dicom_node.store import DecisionKind, JobState, NoticeRow, Store
from tests.gate.test_decisions import DIGEST, RULES, at, found
from tests.store.sending import STUDY, instance, keep

TARGET = WebhookTarget(name="hook", url="http://127.0.0.1:9/", secret_env="SECRET")
LATER = at(100)
OTHER = WebhookTarget(name="other", url="http://127.0.0.1:9/", secret_env="SECRET")


class Receiver:
    """A target in this process: what it was told, and the error that it raises next."""

    def __init__(self) -> None:
        self.told: list[StudyNotice] = []
        self.error: Exception | None = None
        self.meanwhile: Callable[[], None] = lambda: None

    def __call__(self, target: object, notice: StudyNotice) -> None:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        if self.error is not None:
            raise self.error
        self.told.append(notice)

    @property
    def states(self) -> list[str]:
        return [notice.state for notice in self.told]


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def outbox(
    store: Store,
    receiver: Receiver,
    *,
    now: datetime = LATER,
    target: WebhookTarget = TARGET,
    rules: StudyRules = RULES,
    digest: Callable[[], str] = lambda: DIGEST,
    owner: str = "w",
) -> NoticeOutbox:
    standings = Standings(rules, digest)
    retry = RetryPolicy(3, backoff_s=10.0, max_backoff_s=3600.0)
    return NoticeOutbox(store, target, receiver, standings, [target.name], retry, 60.0, owner, lambda: now)


def tell(store: Store, receiver: Receiver, **options: object) -> int:
    """One tick of the schedule: announce, then tell what is due."""
    box = outbox(store, receiver, **options)  # type: ignore[arg-type]
    announce_states(store, box.standings, box.target_names, now=box.clock())
    return box.tell_due(must_stop=lambda: False)


def notice(store: Store, target: str = "hook") -> NoticeRow:
    (row,) = store.notices.list(target=target)
    return row


def test_a_cleared_study_is_told_once_with_its_verdicts_and_no_words_of_people(
    store: Store, receiver: Receiver
) -> None:
    found(store, "defaced")
    assert tell(store, receiver) == 1
    assert tell(store, receiver) == 0
    (told,) = receiver.told
    assert (told.study_instance_uid, told.state, told.decided_by) == (STUDY, "cleared", "rules")
    assert told.standings == {"defaced": 1}
    assert told.evidence_fingerprint == store.studies.evidence(STUDY).fingerprint
    assert (notice(store).state, notice(store).told_version) == (JobState.SUCCEEDED, told.version)


def test_a_new_slice_takes_the_clearance_back_before_anything_else_is_said(store: Store, receiver: Receiver) -> None:
    found(store, "defaced")
    tell(store, receiver)
    keep(store, instance(2, series="1.2.3.4"))
    tell(store, receiver, now=at(101))
    found(store, "face_present", series="1.2.3.4")
    tell(store, receiver, now=at(102))
    assert receiver.states == ["cleared", "open", "blocked"]
    versions = [told.version for told in receiver.told]
    assert versions == sorted(set(versions))


def test_the_newest_of_two_quick_changes_is_told_and_the_one_before_never(store: Store, receiver: Receiver) -> None:
    found(store, "defaced")
    announce_states(store, Standings(RULES, lambda: DIGEST), ["hook"], now=at(90))
    decide(store, STUDY, DecisionKind.HOLD, reason="why", decided_by="Ann", now=at(91),
           gate_digest=gate_digest(RULES, DIGEST), rules=RULES)  # fmt: skip
    outbox(store, receiver).tell_due(must_stop=lambda: False)  # nothing was announced in between
    assert receiver.states == ["held"]
    assert "Ann" not in str(receiver.told)


def test_a_change_while_the_target_is_told_is_told_after_it(store: Store, receiver: Receiver) -> None:
    found(store, "defaced")
    other = Receiver()

    def meanwhile() -> None:
        keep(store, instance(2, series="1.2.3.4"))
        assert tell(store, other, owner="other") == 0  # or the later state could arrive before this one

    receiver.meanwhile = meanwhile
    assert tell(store, receiver) == 2
    assert (receiver.states, other.states) == (["cleared", "open"], [])


def test_a_conflict_a_settlement_and_a_series_that_starts_over_take_the_clearance_back(
    store: Store, receiver: Receiver
) -> None:
    def judge() -> None:
        store.studies.decide(STUDY, study_decision(RULES, DIGEST), at(30))

    found(store, "defaced")
    tell(store, receiver)
    keep(store, instance(1, series="1.2.3.4", StudyDescription="other content"))
    tell(store, receiver)
    judge()
    tell(store, receiver)
    (conflict,) = store.series.conflicts()
    store.conflicts.keep(conflict.id, reason="corrected", decided_by="Ann", now=at(30))
    tell(store, receiver)
    judge()
    tell(store, receiver)
    store.closing.reopen("1.2.3.4", at(31))
    tell(store, receiver)
    assert receiver.states == ["cleared", "open", "review", "open", "cleared", "open"]


def test_more_slices_of_an_open_study_are_no_news(store: Store, receiver: Receiver) -> None:
    keep(store, instance(1))
    tell(store, receiver)
    keep(store, instance(2))
    assert tell(store, receiver) == 0
    assert receiver.states == ["open"]


def test_a_release_is_told_as_a_persons_and_other_evidence_as_a_new_version(store: Store, receiver: Receiver) -> None:
    found(store, "indeterminate")
    decide(store, STUDY, DecisionKind.RELEASE, reason="phantom", decided_by="Ann", now=at(20),
           gate_digest=gate_digest(RULES, DIGEST), rules=RULES)  # fmt: skip
    tell(store, receiver)
    found(store, "defaced", series="1.2.3.5")
    tell(store, receiver)
    assert [(told.state, told.decided_by) for told in receiver.told] == [("cleared", "person"), ("review", "rules")]


def test_other_rules_or_models_take_every_clearance_back_until_studies_are_judged_again(
    store: Store, receiver: Receiver
) -> None:
    stricter = StudyRules(indeterminate="blocked")
    found(store, "defaced")
    tell(store, receiver)
    mark_outdated_states(store, Standings(RULES, lambda: DIGEST), [])
    assert tell(store, receiver) == 0
    mark_outdated_states(store, Standings(stricter, lambda: DIGEST), [])
    tell(store, receiver, rules=stricter)
    store.studies.decide(STUDY, study_decision(stricter, DIGEST), at(30))
    tell(store, receiver, rules=stricter)
    assert receiver.states == ["cleared", "open", "cleared"]


def test_while_the_models_cannot_be_described_what_changes_is_open(store: Store, receiver: Receiver) -> None:
    def unusable() -> str:
        raise HttpRefusedError("models", 404, "made up")  # any refusal

    found(store, "defaced")
    tell(store, receiver)
    mark_outdated_states(store, Standings(RULES, unusable), [])
    assert tell(store, receiver, digest=unusable) == 0
    found(store, "defaced", series="1.2.3.5")
    tell(store, receiver, digest=unusable)
    mark_outdated_states(store, Standings(RULES, lambda: DIGEST), [])
    tell(store, receiver)
    assert receiver.states == ["cleared", "open", "cleared"]


def test_other_models_take_every_clearance_back_without_a_restart(store: Store, receiver: Receiver) -> None:
    digest = [DIGEST]
    standings = Standings(RULES, lambda: digest[0])
    box = replace(outbox(store, receiver), standings=standings)

    def tick() -> None:
        announce_states(store, standings, ["hook"], now=at(100))
        box.tell_due(must_stop=lambda: False)

    found(store, "defaced")
    tick()
    digest[0] = "e" * 64
    tick()
    assert receiver.states == ["cleared"]
    mark_outdated_states(store, standings, ["hook"])
    tick()
    assert receiver.states == ["cleared", "open"]


def test_a_state_that_somebody_changed_without_a_mark_is_found(store: Store, receiver: Receiver) -> None:
    found(store, "defaced")
    tell(store, receiver)
    with store._database.write() as connection:
        connection.exec_driver_sql("UPDATE studies SET state = 'open'")
    mark_outdated_states(store, Standings(RULES, lambda: DIGEST), [])
    tell(store, receiver)
    assert receiver.states == ["cleared", "open"]


def test_a_target_that_is_away_is_asked_without_end_and_at_least_every_five_minutes(
    store: Store, receiver: Receiver
) -> None:
    found(store, "defaced")
    receiver.error = PeerUnreachableError("hook", "made up")
    now = at(100)
    waits = []
    for _ in range(30):
        tell(store, receiver, now=now)
        row = notice(store)
        assert (row.state, row.error_code) == (JobState.WAITING, "peer-unreachable")
        waits.append((row.retry_at - now).total_seconds())
        now = row.retry_at
    assert waits[:6] == [10, 20, 40, 80, 160, 300]
    assert max(waits) == 300
    receiver.error = None
    tell(store, receiver, now=now)
    assert receiver.states == ["cleared"]


def test_a_target_that_is_away_is_left_alone_after_the_first_notice(store: Store, receiver: Receiver) -> None:
    for number in range(3):
        keep(store, instance(1, study=f"1.2.{number}", series=f"1.2.{number}.1"))
    receiver.error = PeerUnreachableError("hook", "made up")
    tell(store, receiver)
    assert sorted(row.attempt_number for row in store.notices.list()) == [0, 0, 1]


def test_a_study_that_the_target_does_not_have_is_told_a_few_times_and_again_when_it_changes(
    store: Store, receiver: Receiver
) -> None:
    found(store, "defaced")
    receiver.error = StudyNotThereError("hook", STUDY)
    now = at(100)
    for state in (JobState.WAITING, JobState.WAITING, JobState.DEAD):
        tell(store, receiver, now=now)
        assert notice(store).state is state
        now = notice(store).retry_at or now
    assert tell(store, receiver, now=now + timedelta(days=9)) == 0
    receiver.error = None
    keep(store, instance(2, series="1.2.3.4"))
    tell(store, receiver, now=now)
    assert receiver.states == ["open"]


def test_a_refusal_is_final_until_a_person_retries_it(store: Store, receiver: Receiver) -> None:
    found(store, "defaced")
    receiver.error = HttpRefusedError("hook", 302, "http://127.0.0.1:9/")
    tell(store, receiver)
    assert (notice(store).state, notice(store).error_code) == (JobState.DEAD, "http-refused")
    receiver.error = None
    assert tell(store, receiver) == 0
    store.notices.retry(notice(store).id)
    assert tell(store, receiver) == 1
    assert notice(store).error_code is None


def test_a_process_that_was_killed_while_it_told_is_followed_by_another(store: Store, receiver: Receiver) -> None:
    found(store, "defaced")
    announce_states(store, Standings(RULES, lambda: DIGEST), ["hook"], now=at(90))
    box = outbox(store, receiver)
    claimed = store.notices.claim_due(
        "hook", "killed", at(100), 60.0, describe=box.standings.describe(), targets=["hook"]
    )
    assert claimed is not None
    assert tell(store, receiver, now=at(159)) == 0  # it may still be telling
    assert tell(store, receiver, now=at(161)) == 1
    assert receiver.states == ["cleared"]


def test_whoever_lost_the_lease_records_nothing(store: Store, receiver: Receiver) -> None:
    found(store, "defaced")
    slow, fast = Receiver(), Receiver()
    slow.meanwhile = lambda: tell(store, fast, now=at(300), owner="other")
    tell(store, slow)
    assert (slow.states, fast.states) == (["cleared"], ["cleared"])
    assert [row.action for row in store.audit.list()].count("notice-told") == 1


def test_a_target_that_is_added_later_is_told_every_study(store: Store, receiver: Receiver) -> None:
    found(store, "defaced")
    keep(store, instance(1, study="1.2.9", series="1.2.9.1"))
    tell(store, receiver)
    later = Receiver()
    mark_outdated_states(store, Standings(RULES, lambda: DIGEST), ["hook", "other"])
    tell(store, later, target=OTHER)
    assert sorted(later.states) == ["cleared", "open"]
    assert len(store.notices.list()) == 4


def test_one_target_that_refuses_holds_no_other_up(store: Store, receiver: Receiver) -> None:
    found(store, "defaced")
    broken = Receiver()
    broken.error = PeerUnreachableError("other", "made up")
    tell(store, broken, target=OTHER)
    mark_outdated_states(store, Standings(RULES, lambda: DIGEST), ["hook", "other"])
    tell(store, receiver)
    assert receiver.states == ["cleared"]
    assert store.notices.counts() == {JobState.SUCCEEDED: 1, JobState.WAITING: 1}


def test_states_and_what_was_told_can_be_looked_up_afterwards(store: Store, receiver: Receiver) -> None:
    found(store, "defaced")
    tell(store, receiver)
    keep(store, instance(2, series="1.2.3.4"))
    tell(store, receiver, now=at(200))
    history = store.announcements.of(STUDY)
    assert [(row.state, row.since) for row in history] == [("open", at(200)), ("cleared", at(100))]
    (opened, cleared) = [row for row in store.audit.list() if row.action == "notice-told"]
    assert (cleared.subject, cleared.detail["before"], cleared.detail["state"]) == (STUDY, None, "cleared")
    assert (opened.detail["before"], opened.detail["before_version"]) == ("cleared", cleared.detail["version"])


def test_versions_grow_although_the_clock_is_set_back_or_the_database_is_lost(store: Store, receiver: Receiver) -> None:
    found(store, "defaced")
    tell(store, receiver, now=at(1000))
    keep(store, instance(2, series="1.2.3.4"))
    tell(store, receiver, now=at(500))
    (first, second) = (told.version for told in receiver.told)
    assert first == at(1000).timestamp() * 1000  # a new database begins there as well
    assert second == first + 1


def test_a_wait_from_before_the_clock_was_set_back_is_cut(store: Store, receiver: Receiver) -> None:
    found(store, "defaced")
    receiver.error = PeerUnreachableError("hook", "made up")
    tell(store, receiver, now=at(100_000))
    assert store.times.bound(at(100), lease_s=60, longest_wait_s=3600) >= 1
    receiver.error = None
    assert tell(store, receiver, now=at(100)) == 1


def test_a_deleted_study_is_taken_back_where_it_was_shown(store: Store, receiver: Receiver) -> None:
    found(store, "defaced")
    tell(store, receiver)
    store.erasure.delete(STUDY, reason="consent withdrawn", decided_by="Ann", now=at(150))
    tell(store, receiver, now=at(200))
    assert receiver.states == ["cleared", "open"]
    assert "consent" not in str(receiver.told)
