"""Four studies that were judged: blocked, cleared, held, and one that is still open."""

from __future__ import annotations

from datetime import timedelta

from dicom_node.gate.decisions import decide
from dicom_node.gate.documents import Terms
from dicom_node.gate.judging import study_decision
from dicom_node.gate.rules import StudyRules
from dicom_node.pipeline.rules import load_rules
from dicom_node.store import DecisionKind, NewVerdict, Outcome, Store
from tests.arrivals import NOON, complete_quiet, receive
from tests.factories import SyntheticSeries, ct_series

PIPELINE = "p" * 64
TERMS = Terms(StudyRules(), PIPELINE)
REPORT = {"series_instance_uid": "1.2.3", "modality": "CT", "verdict": "face_present", "probability": 0.97}
STATES = ("blocked", "cleared", "held", "open")
VERDICTS = {"blocked": "face_present", "cleared": "defaced", "held": "defaced"}


def judge_studies(store: Store) -> dict[str, SyntheticSeries]:
    """Fill a store; return the series of each study by the state of the study."""
    series = {name: ct_series(2, rows=8, columns=8, seed=name) for name in STATES}
    for minutes, name in enumerate(STATES):
        at = NOON + timedelta(minutes=minutes)
        receive(store, series[name], at=at)
        if name not in VERDICTS:
            continue
        rules = load_rules(None, peer_names=())
        complete_quiet(store, rules, pipeline_digest=PIPELINE, quiet_s=1, now=at + timedelta(seconds=30))
        job = store.jobs.claim("w", at + timedelta(seconds=31), 60, pipeline_digest=PIPELINE)
        assert job is not None
        outcome = Outcome(verdicts=(NewVerdict(1, VERDICTS[name], 0.97, (), frozenset(), REPORT),))
        decision = study_decision(StudyRules(), PIPELINE)
        store.jobs.succeed(job.id, "w", outcome, at + timedelta(seconds=40), decide_study=decision)
    decide(
        store, series["held"].study_instance_uid, DecisionKind.HOLD, reason="consent <withdrawn>",
        decided_by="Ann", now=NOON, gate_digest=TERMS.digest, rules=TERMS.rules,
    )  # fmt: skip
    return series
