"""The rules file: which series are processed, where results go, and what verdicts mean for a study."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from dicom_node.gate.rules import StudyRules
from dicom_node.pipeline.conditions import SENDER_KEYWORD, Condition, Keyword
from dicom_node.pipeline.errors import RulesError
from inference.series.stack_choice import DEFAULT_POLICY, StackPolicy

MAX_RULES_BYTES = 1_000_000


class Action(StrEnum):
    """What a rule does with a series that it matches."""

    PROCESS = "process"
    SKIP = "skip"


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Stacks = Annotated[StackPolicy, BeforeValidator(_as_list), Field(min_length=1)]


class SeriesRule(BaseModel):
    """One rule; it matches a series if all its conditions hold for every instance of the series."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    when: Mapping[Keyword, Condition] = Field(default_factory=dict)
    action: Action
    reason: str | None = Field(default=None, max_length=500)
    deliver_to: tuple[str, ...] | None = None
    forward_to: tuple[str, ...] | None = None
    stacks: Stacks = DEFAULT_POLICY

    @model_validator(mode="after")
    def _keys_fit_the_action(self) -> Self:
        if self.action is Action.SKIP and self.deliver_to is not None:
            raise ValueError("deliver_to needs action: process; a series that is skipped has no results")
        if self.action is Action.SKIP and "stacks" in self.model_fields_set:
            raise ValueError("stacks needs action: process; no stack of a skipped series is processed")
        if self.action is Action.SKIP and not self.reason:
            raise ValueError("a rule that skips says why, in reason")
        return self


class Rules(BaseModel):
    """A rules file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    series: tuple[SeriesRule, ...] = Field(min_length=1)
    study: StudyRules = StudyRules()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [rule.name for rule in self.series]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"series: two rules are named {repeated[0]!r}; the log identifies rules by name")
        return self

    @property
    def keywords(self) -> frozenset[str]:
        """Attributes that the rules use."""
        return frozenset(keyword for rule in self.series for keyword in rule.when) - {SENDER_KEYWORD}

    @property
    def digest(self) -> str:
        """SHA-256 of the contents of the series rules; comments and layout do not count.

        The study rules are left out: they judge findings and do not change them. So is where sources are forwarded.
        """
        said = [
            rule.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"forward_to"})
            for rule in self.series
        ]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def load_rules(path: Path | None, *, peer_names: Collection[str]) -> Rules:
    """Load the rules of a node.

    Parameters
    ----------
    path
        YAML file; with None, the rules that ship with the node.
    peer_names
        Names of the peers in the settings, to which results may go.

    Raises
    ------
    RulesError
        The file is missing or not YAML, a key is unknown, a value not allowed, or a peer not configured; every problem
        names file and key.
    """
    origin = str(path) if path is not None else "default rules"
    try:
        rules = Rules.model_validate(_tree(origin, _text(origin, path)))
    except ValidationError as error:
        raise RulesError(origin, tuple(_problem(item) for item in error.errors())) from error
    unknown = tuple(
        f"series.{index}.{key}: no peer is named {name!r}; known peers: "
        f"{', '.join(sorted(peer_names)) or 'none is configured'}"
        for index, rule in enumerate(rules.series)
        for key, names in (("deliver_to", rule.deliver_to), ("forward_to", rule.forward_to))
        for name in names or ()
        if name not in peer_names
    )
    if unknown:
        raise RulesError(origin, unknown)
    return rules


def default_rules_text() -> str:
    """Return the rules that ship with the node, with their comments."""
    return importlib.resources.files(__package__).joinpath("default_rules.yaml").read_text(encoding="utf-8")


def _text(origin: str, path: Path | None) -> str:
    if path is None:
        return default_rules_text()
    try:
        if path.stat().st_size > MAX_RULES_BYTES:
            raise RulesError(origin, (f"is larger than {MAX_RULES_BYTES} bytes; is it the rules file?",))
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RulesError(origin, ("no such file; give another path under rules, or leave the key out",)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RulesError(origin, (f"cannot be read: {error}",)) from error


def _tree(origin: str, text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RulesError(origin, (f"is not valid YAML: {' '.join(str(error).split())}",)) from error


def _problem(item: ErrorDetails) -> str:
    """Format a validation problem as ``key: what is wrong; what was found``."""
    key = ".".join(str(part) for part in item["loc"] if part != "[key]")
    if item["type"] == "extra_forbidden":
        return f"{key}: unknown key; known here: {', '.join(_known_keys(item['loc']))}"
    message = item["msg"].removeprefix("Value error, ")
    found = "" if isinstance(item["input"], dict | list) else f" (found {item['input']!r})"
    return f"{key}: {message}{found}" if key else message


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are allowed in the section of an unknown one."""
    model: type[BaseModel] = Rules
    if len(location) > 1:
        model = StudyRules if location[0] == "study" else Condition if "when" in location else SeriesRule
    return [field.alias or name for name, field in model.model_fields.items()]
