"""The commands ``series``: what was received, what counts as complete, and processing again."""

from __future__ import annotations

from typing import Annotated

import typer

from dicom_node.cli.conflicts_commands import conflicts_app
from dicom_node.cli.errors import EXIT_FAILED, fail
from dicom_node.cli.options import ConfigOption, JsonOption, LimitOption, open_existing_store, read_settings
from dicom_node.cli.people import ByOption, person
from dicom_node.cli.tables import write_json, write_table

series_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, complete and reprocess series.",
)

series_app.add_typer(conflicts_app, name="conflicts", short_help="List two contents of one instance, and choose one.")

SeriesUids = Annotated[list[str], typer.Argument(metavar="UID", help="Series Instance UIDs.")]


@series_app.command("list")
def list_series(
    config: ConfigOption = None,
    state: Annotated[
        str | None,
        typer.Option("--state", metavar="STATE", help="Only this state: receiving, complete, skipped or deleted."),
    ] = None,
    study: Annotated[
        str | None, typer.Option("--study", metavar="UID", help="Only of this Study Instance UID.")
    ] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List received series, the latest arrival first, and why each waits, was completed or was skipped.

    \b
    Example:
      dicom-node series list -c config/node.yaml --state receiving
    """
    from dicom_node.cli.state_words import series_state

    wanted = series_state(state)
    with open_existing_store(read_settings(config)) as store:
        rows = store.series.list(state=wanted, study_instance_uid=study, is_received=True, limit=limit)
    if as_json:
        write_json(rows)
        return
    write_table(
        ("SERIES", "STATE", "GENERATION", "INSTANCES", "LAST ARRIVAL", "WHY"),
        [
            (
                row.series_instance_uid,
                row.state,
                row.generation,
                row.n_instances,
                row.last_arrival_at,
                f"waits: {row.waits_because}" if row.waits_because else row.skip_reason or row.complete_because,
            )
            for row in rows
        ],
        when_empty="no series",
    )


@series_app.command("report")
def report_series(
    series_uid: Annotated[str, typer.Argument(metavar="UID", help="Series Instance UID.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was found in a series: verdict, reasons, volumes, models, and the SEG and SR that say the same.

    It has one part for each stack of the current generation that was processed; --json lists them as `segment` writes
    them to report.json. Exit code 3: the series has no report.

    \b
    Example:
      dicom-node series report 1.2.840.1 -c config/node.yaml
    """
    from dicom_node.report_text import report_text

    with open_existing_store(read_settings(config)) as store:
        reports = store.studies.reports(series_uid)
    if as_json:
        write_json(reports)
    for report in () if as_json else reports:
        typer.echo(report_text(report), nl=False)
    if not reports:
        fail(f"series {series_uid}: has no report; `dicom-node jobs list --series {series_uid}` says what became of it")
        raise typer.Exit(EXIT_FAILED)


@series_app.command("complete")
def complete_series(series_uids: SeriesUids, config: ConfigOption = None, by: ByOption = None) -> None:
    """Declare series complete as they are; the running node closes them within seconds.

    Instances that arrive later start a new generation.

    \b
    Example:
      dicom-node series complete 1.2.840.1 -c config/node.yaml
    """
    n_failed = 0
    with open_existing_store(read_settings(config)) as store:
        for uid in series_uids:
            row = store.series.get(uid)
            if store.series.force(uid, store.now()):
                detail = {"n_instances": row.n_instances}
                store.audit.record("series-completed", actor=person(by), subject=uid, now=store.now(), detail=detail)
                typer.echo(f"series {uid} counts as complete with {row.n_instances} instances")
            else:
                fail(f"series {uid}: is {row.state}, not receiving; there is nothing to complete")
                n_failed += 1
    if n_failed:
        raise typer.Exit(EXIT_FAILED)


@series_app.command("reprocess")
def reprocess_series(
    series_uids: Annotated[
        list[str] | None, typer.Argument(metavar="UID", help="Series Instance UIDs; none with --all-outdated.")
    ] = None,
    config: ConfigOption = None,
    all_outdated: Annotated[
        bool,
        typer.Option(
            "--all-outdated", help="Every series that was closed for other models or rules than the current ones."
        ),
    ] = False,
    by: ByOption = None,
) -> None:
    """Start closed series over, as new generations for the current models and rules.

    Use it after a change of models or rules; restart the node first, so that it loads them. Earlier results are served
    until the new ones exist, which say that they replace them.

    \b
    Examples:
      dicom-node series reprocess 1.2.840.1 -c config/node.yaml
      dicom-node series reprocess --all-outdated -c config/node.yaml
    """
    from dicom_node import app

    if bool(series_uids) == all_outdated:
        raise typer.BadParameter("pass either Series Instance UIDs or --all-outdated", param_hint="UID")
    settings = read_settings(config)
    n_failed = n_reopened = 0
    with open_existing_store(settings) as store:
        uids = series_uids or [
            row.series_instance_uid for row in store.series.outdated(app.current_pipeline_digest(settings))
        ]
        for uid in uids:
            if store.closing.reopen(uid, store.now()):
                n_reopened += 1
                store.audit.record("series-reprocessed", actor=person(by), subject=uid, now=store.now())
                typer.echo(f"series {uid} starts over as generation {store.series.get(uid).generation}")
                continue
            fail(f"series {uid}: is {store.series.get(uid).state}; only closed series that were received start over")
            n_failed += 1
    if all_outdated and not n_reopened:
        typer.echo("no series is outdated")
    if n_failed:
        raise typer.Exit(EXIT_FAILED)
