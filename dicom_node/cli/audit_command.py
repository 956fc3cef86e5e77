"""The commands ``audit``: who did what, when, and whether the trail is whole."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.errors import EXIT_FAILED
from dicom_node.cli.options import ConfigOption, JsonOption, LimitOption, open_existing_store, read_settings
from dicom_node.cli.tables import write_json, write_table

if TYPE_CHECKING:
    from dicom_node.store.work.audit_head import Head

audit_app = typer.Typer(
    rich_markup_mode=None,
    help="Show the audit trail, and check that nothing in it was changed.",
)

StudyOption = Annotated[
    str | None, typer.Option("--study", metavar="UID", help="Only what is about this Study Instance UID.")
]
WhoOption = Annotated[str | None, typer.Option("--who", metavar="NAME", help="Only what this person or program did.")]
WhatOption = Annotated[
    str | None, typer.Option("--what", metavar="ACTION", help="Only this, such as exported, read or not-permitted.")
]
SinceOption = Annotated[
    datetime | None,
    typer.Option("--since", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], metavar="DATE", help="Only from then on, UTC."),
]


@audit_app.callback(invoke_without_command=True)
def audit(
    context: typer.Context,
    config: ConfigOption = None,
    study: StudyOption = None,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
) -> None:
    """Show the audit trail, the latest entry first; the same as `audit list`.

    \b
    Example:
      dicom-node audit -c config/node.yaml --study 1.2.840.1
    """
    if context.invoked_subcommand is None:
        list_entries(config=config, study=study, limit=limit, as_json=as_json)


@audit_app.command("list")
def list_entries(
    config: ConfigOption = None,
    study: StudyOption = None,
    who: WhoOption = None,
    what: WhatOption = None,
    since: SinceOption = None,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
) -> None:
    """List entries, the latest first: associations, retrievals, decisions, exports, deletions, tokens, refusals.

    Entries are only ever added. Names are those of tokens, those that people typed, or those that a process or an
    application entity has.

    \b
    Example:
      dicom-node audit list -c config/node.yaml --what exported --since 2026-03-01
    """
    moment = None if since is None else since.replace(tzinfo=UTC)
    with open_existing_store(read_settings(config)) as store:
        subjects = () if study is None else (study,)
        rows = store.audit.list(subjects=subjects, actor=who, action=what, since=moment, limit=limit)
    if as_json:
        write_json(rows)
        return
    write_table(
        ("WHEN", "WHO", "WHAT", "ABOUT", "DETAIL"),
        [
            (row.occurred_at, row.actor, row.action, row.subject, json.dumps(dict(row.detail), ensure_ascii=False))
            for row in rows
        ],
        when_empty="no entries",
    )


@audit_app.command("verify")
def verify(
    config: ConfigOption = None,
    head: Annotated[
        str | None,
        typer.Option(
            "--head", metavar="POSITION:DIGEST", help="What `audit verify` wrote earlier, and was noted elsewhere."
        ),
    ] = None,
) -> None:
    """Check that no entry of the audit trail was changed, moved, removed or inserted since it was sealed.

    Compares with the digest that `schedule` keeps in data_dir/audit-head, with what was sent to a syslog receiver, and
    the decisions on studies with their entries. Writes POSITION:DIGEST of the newest sealed entry: note it outside of
    this machine, and a later check with --head shows whether the chain up to there is still the same, even if somebody
    who may write to this machine computed all of it anew.

    Exit code 0: the trail is whole. 3: it is not; what does not fit is listed.

    \b
    Example:
      dicom-node audit verify -c config/node.yaml
    """
    given = None if head is None else _parse_head(head)
    with open_existing_store(read_settings(config)) as store:
        heads = [one for one in (store.audit_head.read(), given) if one is not None]
        report = store.audit_chain.verify(heads)
    for finding in report.findings:
        typer.echo(finding)
    typer.echo(
        f"{report.n_sealed} entries are sealed, {report.n_unsealed} are too new for it (a running `schedule` seals "
        "every 5 s)"
    )
    typer.echo(f"{report.position}:{report.digest}")
    if report.findings:
        raise typer.Exit(EXIT_FAILED)


def _parse_head(text: str) -> Head:
    from dicom_node.store.work.audit_head import Head

    head = Head.parse(text)
    if head is None:
        raise typer.BadParameter("is not POSITION:DIGEST as `audit verify` writes it", param_hint="--head")
    return head
