"""Words on the command line to states of jobs and deliveries."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from dicom_node.store import JobState


def job_states(words: Sequence[str] | None) -> tuple[JobState, ...]:
    """States of these names; a wrong one is a usage error that names the right ones."""
    try:
        return tuple(JobState(word.lower()) for word in words or ())
    except ValueError as error:
        known = ", ".join(state.value for state in JobState)
        raise typer.BadParameter(f"no such state; known states: {known}", param_hint="--state") from error
