"""Decide which series are processed by the models, and why the others are not.

Objects that this node wrote, and anything but CT and MR images, are never processed; no rule can change that. For
all other series, the first rule that matches decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from dicom_node.pipeline.rules import Action, Rules, SeriesRule
from inference.series.stack_choice import DEFAULT_POLICY, StackPolicy
from inference.series.uids import shown_uid

SEGMENTED_SOP_CLASSES = frozenset(
    {
        CTImageStorage,
        EnhancedCTImageStorage,
        EnhancedMRImageStorage,
        LegacyConvertedEnhancedCTImageStorage,
        LegacyConvertedEnhancedMRImageStorage,
        MRImageStorage,
    }
)

OWN_RESULT = "own-result"
NOT_AN_IMAGE = "not-a-ct-or-mr-image"
NO_RULE = "no-rule"
RULE_PREFIX = "rule-"


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """Facts on one instance that routing may use."""

    sop_class_uid: str
    is_own: bool  # this node wrote it
    values: Mapping[str, tuple[str, ...]]  # by keyword; absent and empty attributes are left out


@dataclass(frozen=True, slots=True)
class Process:
    """The series is processed by the models."""

    rule_name: str
    deliver_to: tuple[str, ...] | None  # None: the peers that get every result
    stacks: StackPolicy = DEFAULT_POLICY
    forward_to: tuple[str, ...] | None = None  # None: the peers that get all sources


@dataclass(frozen=True, slots=True)
class Skip:
    """The series is not processed, and so never helps to clear its study."""

    code: str
    reason: str
    forward_to: tuple[str, ...] | None = None  # None: the peers that get all sources


def route(instances: Sequence[InstanceFacts], rules: Rules) -> Process | Skip:
    """Decide what to do with a complete series.

    A series with both CT or MR images and other instances is routed as a whole: whether it forms a volume is decided,
    with a named reason, where volumes are built, and not by leaving instances out here.
    """
    if any(instance.is_own for instance in instances):
        return Skip(OWN_RESULT, "this node wrote it", forward_to=())
    if not any(instance.sop_class_uid in SEGMENTED_SOP_CLASSES for instance in instances):
        found = ", ".join(sorted({shown_uid(instance.sop_class_uid) for instance in instances})) or "nothing"
        return Skip(NOT_AN_IMAGE, f"no CT or MR image storage SOP class in it, but {found}")
    for rule in rules.series:
        if all(_takes(rule, instance) for instance in instances):
            if rule.action is Action.PROCESS:
                return Process(rule.name, rule.deliver_to, rule.stacks, rule.forward_to)
            return Skip(f"{RULE_PREFIX}{rule.name}", rule.reason or rule.name, rule.forward_to)
    return Skip(NO_RULE, "no rule takes it")


def _takes(rule: SeriesRule, instance: InstanceFacts) -> bool:
    return all(condition.holds(instance.values.get(keyword, ())) for keyword, condition in rule.when.items())
