"""A process that runs for months goes by the rules and models of now."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node import app
from dicom_node.gate.documents import Terms
from dicom_node.gate.live_terms import LOOK_S, LiveTerms
from dicom_node.gate.rules import StudyRules
from dicom_node.pipeline.errors import RulesError
from dicom_node.settings import Settings

RULES = "series: [{name: all, action: process}]\n"


def test_terms_are_read_again_after_a_while_and_not_for_every_request() -> None:
    now_s, n_reads = 0.0, 0

    def read() -> Terms:
        nonlocal n_reads
        n_reads += 1
        return Terms(StudyRules(), str(n_reads))

    terms = LiveTerms(read, monotonic=lambda: now_s)
    assert [terms().pipeline_digest, terms().pipeline_digest] == ["1", "1"]
    now_s = LOOK_S
    assert [terms().pipeline_digest, terms().pipeline_digest] == ["2", "2"]


def test_changed_rules_change_the_digest_by_which_studies_must_have_been_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.gate.live_terms.LOOK_S", 0.0)
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    terms = app.live_terms(Settings(rules=path))
    before = terms()
    assert before.pipeline_digest is not None
    path.write_text(RULES + "study: {release_of_blocked: allowed}\n")
    after = terms()
    assert after.digest != before.digest
    assert after.for_index.may_release_blocked
    path.write_text("series: burn\n")  # while somebody edits it
    assert terms() == Terms(StudyRules(), None)
    path.write_text(RULES)
    assert terms() == before


def test_a_start_with_rules_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="no such file"):
        app.live_terms(Settings(rules=tmp_path / "none.yaml"))
