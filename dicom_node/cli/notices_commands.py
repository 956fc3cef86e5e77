"""The commands ``notices``: what targets are told about studies."""

from __future__ import annotations

from typing import Annotated

import typer

from dicom_node.cli.jobs_commands import StateOption
from dicom_node.cli.options import ConfigOption, JsonOption, LimitOption, open_existing_store, read_settings
from dicom_node.cli.tables import write_json, write_table

notices_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List and retry notices: states of studies that are told to the targets in `notify`.",
)

TargetOption = Annotated[str | None, typer.Option("--target", metavar="NAME", help="Only to this target.")]


@notices_app.command("list")
def list_notices(
    config: ConfigOption = None,
    state: StateOption = None,
    target: TargetOption = None,
    study: Annotated[str | None, typer.Option("--study", metavar="UID", help="Only about this study.")] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List notices, those about the newest states first: what each target was told last, and what it is to be told.

    \b
    Example:
      dicom-node notices list -c config/node.yaml --state waiting
    """
    from dicom_node.cli.state_words import job_states

    states = job_states(state)
    with open_existing_store(read_settings(config)) as store:
        notices = store.notices.list(states=states, target=target, study_instance_uid=study, limit=limit)
    if as_json:
        write_json(notices)
        return
    write_table(
        ("NOTICE", "TARGET", "STATE", "ATTEMPTS", "TRIED AGAIN AT", "STUDY", "TOLD", "TOLD AT", "WHY"),
        [
            (
                notice.id,
                notice.target,
                notice.state,
                notice.attempt_number,
                notice.retry_at,
                notice.study_instance_uid,
                notice.told_state,
                notice.told_at,
                f"{notice.error_code}: {notice.error_message}" if notice.error_code else None,
            )
            for notice in notices
        ],
        when_empty="no notices",
    )


@notices_app.command("retry")
def retry_notices(
    notice_ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="[NOTICE]...", help="Numbers of notices, as `notices list` shows them."),
    ] = None,
    config: ConfigOption = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="NAME", help="Every dead or waiting notice to this target.")
    ] = None,
) -> None:
    """Tell again: notices by number, also those that were told, or all dead and waiting ones to a target.

    \b
    Examples:
      dicom-node notices retry 5 -c config/node.yaml
      dicom-node notices retry --target pacs -c config/node.yaml
    """
    if bool(notice_ids) == (target is not None):
        raise typer.BadParameter("say one of the two", param_hint="NOTICE... or --target")
    with open_existing_store(read_settings(config)) as store:
        if target is not None:
            typer.echo(f"{store.notices.retry_all(target)} notices to {target} are queued")
        for notice_id in notice_ids or ():
            notice = store.notices.retry(notice_id)
            typer.echo(f"notice {notice.id} to {notice.target} is {notice.state}")


@notices_app.command("history")
def show_history(
    study_instance_uid: Annotated[str, typer.Argument(metavar="UID", help="Study Instance UID.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the states of a study, the newest first, and when each target was told.

    \b
    Example:
      dicom-node notices history 1.2.840.1 -c config/node.yaml
    """
    from dicom_node.store import NotFoundError

    with open_existing_store(read_settings(config)) as store:
        states = store.announcements.of(study_instance_uid)
        if not states:
            raise NotFoundError("announced study", study_instance_uid)
        told = store.audit.of(study_instance_uid, action="notice-told")
    if as_json:
        write_json({"states": states, "told": told})
        return
    write_table(
        ("SINCE", "STATE", "DECIDED BY", "SERIES", "TOLD"),
        [
            (
                row.since,
                row.state,
                row.decided_by,
                ", ".join(f"{number} {standing}" for standing, number in row.standings.items()),
                ", ".join(str(entry.detail["target"]) for entry in told if entry.detail["version"] == row.version),
            )
            for row in states
        ],
        when_empty="no states",
    )
