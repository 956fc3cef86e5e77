"""Turn words on the command line into states."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TypeVar

import typer

from dicom_node.gate.decisions import GateState
from dicom_node.store import JobState, SeriesState

State = TypeVar("State", bound=StrEnum)


def job_states(words: Sequence[str] | None) -> tuple[JobState, ...]:
    """Return the job and delivery states of these names."""
    return tuple(_state(JobState, word) for word in words or ())


def series_state(word: str | None) -> SeriesState | None:
    """Return the series state of this name."""
    return None if word is None else _state(SeriesState, word)


def gate_state(word: str | None) -> GateState | None:
    """Return the study state of this name."""
    return None if word is None else _state(GateState, word)


def _state(kind: type[State], word: str) -> State:
    """Return a state by its name; an unknown name is a usage error that lists the known ones."""
    try:
        return kind(word.lower())
    except ValueError as error:
        known = ", ".join(state.value for state in kind)
        raise typer.BadParameter(f"no such state; known states: {known}", param_hint="--state") from error
