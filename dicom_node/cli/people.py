"""Options of commands by which a person decides something."""

from __future__ import annotations

from typing import Annotated

import typer

MAX_REASON = 1000  # characters
MAX_NAME = 100

ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; the audit trail keeps it.")]
NameOption = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides; the audit trail keeps it.")]
ByOption = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="Who does it, for the audit trail; default: the user of this shell."),
]


def person(by: str | None) -> str:
    """Return who does something: the name that was given, else the system's user."""
    if by is not None:
        return said("-", by)[1]
    from dicom_node.app import system_user

    return system_user()


def said(reason: str, name: str) -> tuple[str, str]:
    """Return reason and name without spaces around them; both must say something."""
    for text, longest, hint in ((reason, MAX_REASON, "--reason"), (name, MAX_NAME, "--by")):
        if not text.strip():
            raise typer.BadParameter("must not be empty", param_hint=hint)
        if len(text) > longest:
            raise typer.BadParameter(f"has {len(text)} characters, at most {longest}", param_hint=hint)
    return reason.strip(), name.strip()
