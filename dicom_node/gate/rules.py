"""The part of the rules file that says what verdicts mean for a study."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict


class StudyRules(BaseModel):
    """How the standings of its series decide on a study. Rules for doubtful cases can be made stricter, never looser.

    Two settings let more studies leave: ``only_not_applicable: cleared`` (studies without a face in view) and
    ``earlier_pipeline: accepted`` (verdicts of models or rules that the node no longer has).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    face_present: Literal["blocked", "review"] = "blocked"
    failed: Literal["review", "blocked"] = "review"
    unfinished: Literal["review", "blocked"] = "review"
    indeterminate: Literal["review", "blocked"] = "review"
    partly_seen: Literal["review", "blocked"] = "review"
    conflict: Literal["review", "blocked"] = "review"
    earlier_pipeline: Literal["review", "blocked", "accepted"] = "review"
    only_not_applicable: Literal["review", "cleared"] = "review"
    release_of_blocked: Literal["refused", "allowed"] = "refused"


def gate_digest(rules: StudyRules, pipeline_digest: str | None) -> str:
    """Return the SHA-256 over all that a judgement depends on besides its evidence; if it changes, judge again."""
    said = {"rules": rules.model_dump(mode="json"), "pipeline": pipeline_digest}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
