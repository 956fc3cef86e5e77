"""What ``export`` and ``dataset --studies`` share: the cohort that they are given, and what became of its studies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

_EXAMPLES = 5  # reasons that are shown
_NAMED = 20  # studies that are named


def read_cohort(path: Path) -> list[str]:
    """Return the Study Instance UIDs of a file, also of one that a spreadsheet wrote; ``#`` begins a comment."""
    try:
        lines = [line.partition("#")[0].strip(' \t"') for line in path.read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise typer.BadParameter("is not UTF-8; save it as plain text", param_hint="--cohort") from error
    wanted = [line for line in lines if line]
    if not wanted:
        raise typer.BadParameter("names no study; without --cohort every cleared study goes", param_hint="--cohort")
    return wanted


def tell_outcomes(
    studies: Sequence[Mapping[str, Any]], ended: Mapping[str, Sequence[str]], fine: Collection[str]
) -> None:
    """Say what became of studies, and name those that somebody has to do something about: the manifest does not.

    Parameters
    ----------
    studies
        As the manifest has them, with outcome and reason.
    ended
        Study Instance UIDs by outcome.
    fine
        Outcomes of which no study has to be named.
    """
    for outcome, n in sorted(Counter(str(one["outcome"]) for one in studies).items()):
        reasons = Counter(one["reason"] for one in studies if one["outcome"] == outcome)
        lines = [f"  {m} × {text}" for text, m in reasons.most_common(_EXAMPLES) if text]
        named = [] if outcome in fine else ended[outcome]
        lines = [*(f"    {uid}" for uid in named[:_NAMED]), *(["    …"] if len(named) > _NAMED else []), *lines]
        typer.echo("\n".join([f"{n} × {outcome}", *lines]))
