"""The commands ``jobs``: what is queued, what failed and why; retry or cancel it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.options import ConfigOption, JsonOption, LimitOption, open_existing_store, read_settings
from dicom_node.cli.people import ByOption, person
from dicom_node.cli.tables import write_fields, write_json, write_table

if TYPE_CHECKING:
    from dicom_node.settings import Settings
    from dicom_node.store import DecideStudy, JobRow, Store

jobs_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, explain, retry and cancel jobs: the work of the models on one series.",
)

JobId = Annotated[int, typer.Argument(metavar="JOB", help="Number of the job, as `jobs list` shows it.")]
JobIds = Annotated[list[int], typer.Argument(metavar="JOB", help="Numbers of jobs, as `jobs list` shows them.")]
StateOption = Annotated[
    list[str] | None,
    typer.Option("--state", metavar="STATE", help="Only this state: queued, running, waiting, succeeded, dead, ..."),
]


@jobs_app.command("list")
def list_jobs(
    config: ConfigOption = None,
    state: StateOption = None,
    series: Annotated[
        str | None, typer.Option("--series", metavar="UID", help="Only this Series Instance UID.")
    ] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List jobs, the newest first.

    \b
    Examples:
      dicom-node jobs list -c config/node.yaml
      dicom-node jobs list -c config/node.yaml --state dead
    """
    from dicom_node.cli.state_words import job_states

    states = job_states(state)
    with open_existing_store(read_settings(config)) as store:
        jobs = store.jobs.list(states=states, series_instance_uid=series, limit=limit)
        when_empty = "no jobs" if series is None else f"no jobs; {_series_in_words(store, series)}"
    if as_json:
        write_json(jobs)
        return
    write_table(
        ("JOB", "STATE", "ATTEMPTS", "QUEUED", "ENDED", "SERIES", "GENERATION", "WHY"),
        [
            (
                job.id,
                job.state,
                job.attempt_number,
                job.queued_at,
                job.ended_at,
                job.series_instance_uid,
                job.generation,
                job.error_code,
            )
            for job in jobs
        ],
        when_empty=when_empty,
    )


@jobs_app.command("show")
def show_job(job_id: JobId, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Explain one job: state, reason, history, results and deliveries.

    \b
    Example:
      dicom-node jobs show 17 -c config/node.yaml
    """
    with open_existing_store(read_settings(config)) as store:
        job = store.jobs.get(job_id)
        task = store.task_of(job)
        events = store.jobs.events(job_id)
        results = store.jobs.results(job_id)
        deliveries = store.deliveries.list(job_id=job_id)
        verdicts = [
            verdict
            for verdict in store.studies.verdicts(job.study_instance_uid)
            if (verdict.series_instance_uid, verdict.generation, verdict.pipeline_digest)
            == (job.series_instance_uid, job.generation, job.pipeline_digest)
        ]
    if as_json:
        write_json(
            {
                "job": job,
                "task": task,
                "events": events,
                "results": results,
                "deliveries": deliveries,
                "verdicts": verdicts,
            }
        )
        return
    write_fields(
        {
            "job": job.id,
            "state": job.state,
            **({} if task is None else {"doing": task.words}),
            "series": f"{job.series_instance_uid}, generation {job.generation}",
            "study": job.study_instance_uid,
            "attempts": job.attempt_number,
            "rule": job.route.rule_name if job.route else None,
            "stacks": ", ".join(job.route.stacks) if job.route else None,
            "results go to": (", ".join(job.route.deliver_to) or "nobody") if job.route else None,
            "queued": job.queued_at,
            "ended": job.ended_at,
            "tried again at": job.retry_at,
            "reason": f"{job.error_code}: {job.error_message}" if job.error_code else None,
        }
    )
    typer.echo()
    write_table(
        ("WHEN", "EVENT", "STATE", "ATTEMPT", "DETAIL"),
        [(event.occurred_at, event.event, event.to_state, event.attempt_number, event.detail) for event in events],
        when_empty="no history",
    )
    typer.echo()
    for verdict in verdicts:
        report = verdict.report
        typer.echo(
            f"stack {verdict.stack_number}: verdict {verdict.verdict} ({verdict.probability:.2f}), "
            f"foreground {report.get('foreground_ml')} mL, anonymised area {report.get('anonymized_ml')} mL"
        )
    for result in results:
        by = f", replaced by job {result.superseded_by_job_id}" if result.superseded_by_job_id else ""
        typer.echo(f"result {result.kind} {result.sop_instance_uid}{by}")
    for delivery in deliveries:
        reason = f" ({delivery.error_code}: {delivery.error_message})" if delivery.error_code else ""
        typer.echo(f"delivery {delivery.id} to {delivery.peer}: {delivery.state}{reason}")
    if job.error_detail:
        typer.echo(f"\n{job.error_detail.rstrip()}")


@jobs_app.command("retry")
def retry_jobs(job_ids: JobIds, config: ConfigOption = None, by: ByOption = None) -> None:
    """Queue dead, cancelled or waiting jobs again.

    \b
    Example:
      dicom-node jobs retry 17 18 -c config/node.yaml
    """
    settings = read_settings(config)
    decide_study = _study_decision(settings)
    with open_existing_store(settings) as store:
        for job_id in job_ids:
            job = store.jobs.retry(job_id, store.now(), decide_study=decide_study)
            _record(store, "job-retried", job, by)
            typer.echo(f"job {job.id} is {job.state}")


@jobs_app.command("cancel")
def cancel_jobs(job_ids: JobIds, config: ConfigOption = None, by: ByOption = None) -> None:
    """Cancel queued, waiting or running jobs; the received instances stay.

    \b
    Example:
      dicom-node jobs cancel 17 -c config/node.yaml
    """
    settings = read_settings(config)
    decide_study = _study_decision(settings)
    with open_existing_store(settings) as store:
        for job_id in job_ids:
            job = store.jobs.cancel(job_id, store.now(), decide_study=decide_study)
            _record(store, "job-cancelled", job, by)
            typer.echo(f"job {job.id} is {job.state}")


def _record(store: Store, action: str, job: JobRow, by: str | None) -> None:
    """Add an entry to the audit trail, as the page does."""
    now, detail = store.now(), {"job": job.id}
    store.audit.record(action, actor=person(by), subject=job.series_instance_uid, now=now, detail=detail)


def _study_decision(settings: Settings) -> DecideStudy:
    """Return the node's rule that decides the study of a job after its state has changed."""
    from dicom_node import app
    from dicom_node.gate.judging import study_decision

    return study_decision(app.read_rules(settings).study, app.current_pipeline_digest(settings))


def _series_in_words(store: Store, series_instance_uid: str) -> str:
    """Return the state of a series and the reason, in words."""
    from dicom_node.store import NotFoundError

    try:
        series = store.series.get(series_instance_uid)
    except NotFoundError:
        return "no instance of this series has arrived"
    because = series.skip_reason or series.waits_because
    return f"the series is {series.state}{f' ({because})' if because else ''}"
