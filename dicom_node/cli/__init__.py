"""The command line. Commands import what they need when they run, so that help is shown at once."""

from __future__ import annotations

from typing import Annotated

import typer

import dicom_node
from dicom_node.cli.audit_command import audit_app
from dicom_node.cli.config_command import check_config
from dicom_node.cli.dataset_command import dataset
from dicom_node.cli.deidentify_command import deidentify
from dicom_node.cli.delete_commands import patients_app
from dicom_node.cli.deliveries_commands import deliveries_app
from dicom_node.cli.demo_command import demo
from dicom_node.cli.demo_heads_command import demo_heads
from dicom_node.cli.errors import NodeGroup
from dicom_node.cli.export_command import export
from dicom_node.cli.exports_commands import exports_app
from dicom_node.cli.jobs_commands import jobs_app
from dicom_node.cli.models_commands import models_app
from dicom_node.cli.notices_commands import notices_app
from dicom_node.cli.peers_commands import peers_app
from dicom_node.cli.pretrain_commands import pretrain_app
from dicom_node.cli.process_commands import receive, schedule, serve, web, work
from dicom_node.cli.retention_command import retention
from dicom_node.cli.segment_command import segment
from dicom_node.cli.series_commands import series_app
from dicom_node.cli.status_command import status
from dicom_node.cli.store_commands import store_app
from dicom_node.cli.store_upgrade import upgrade
from dicom_node.cli.studies_commands import studies_app
from dicom_node.cli.tokens_commands import tokens_app

app = typer.Typer(
    name="dicom-node",
    cls=NodeGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "A DICOM node: finds the body and the anonymised area in CT and MR series and returns DICOM SEG.\n\n"
        "\b\n"
        "Start with one of these:\n"
        "  dicom-node demo                              see it at work on synthetic series\n"
        "  dicom-node segment STUDY_FOLDER -o results   segment files, without any server\n"
        "  dicom-node serve -c config/node.yaml         run the node next to a PACS\n\n"
        "Exit codes: 0 done, 2 bad usage or settings, 3 some input failed."
    ),
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"dicom-node {dicom_node.__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""


app.command(short_help="Segment folders, zips and NIfTI files.")(segment)
app.command(short_help="Turn segmented folders into datasets for nnssl, nnU-Net and OpenMind.")(dataset)
app.command(short_help="De-identify folders and zips of DICOM files.")(deidentify)
app.command(short_help="Export the studies that may leave, de-identified.")(export)
app.command(short_help="See the node at work on synthetic series.")(demo)
app.command("demo-heads", short_help="Write synthetic heads to try pretraining with.")(demo_heads)
app.command(short_help="Run the whole node next to a PACS.")(serve)
app.command(short_help="Run the receiver alone.")(receive)
app.command(short_help="Run the web server alone.")(web)
app.command(short_help="Run the scheduler alone.")(schedule)
app.command(short_help="Run the worker alone.")(work)
app.command(name="check-config", short_help="Check settings, rules and models.")(check_config)
app.command(short_help="Show what runs, waits and has failed.")(status)
app.command(short_help="Show which sources would be deleted, and why the others stay.")(retention)
app.add_typer(audit_app, name="audit", short_help="Show who did what, when, and check that nothing was changed.")
app.add_typer(tokens_app, name="tokens", short_help="Create, list and revoke tokens for the web server.")
app.add_typer(studies_app, name="studies", short_help="Show which studies may leave; release or hold them.")
app.add_typer(patients_app, name="patients", short_help="Delete what the node has of a patient.")
app.add_typer(exports_app, name="exports", short_help="List what was exported, and what may no longer be used.")
app.add_typer(jobs_app, name="jobs", short_help="List, explain, retry and cancel jobs.")
app.add_typer(series_app, name="series", short_help="List, complete and reprocess series.")
app.add_typer(deliveries_app, name="deliveries", short_help="List, retry, repeat and cancel deliveries.")
app.add_typer(notices_app, name="notices", short_help="List and retry notices of states to other systems.")
app.add_typer(peers_app, name="peers", short_help="Check whether peers answer, and see what they accept.")
store_app.command("upgrade")(upgrade)
app.add_typer(store_app, name="store", short_help="Check the objects on disk.")
app.add_typer(pretrain_app, name="pretrain", short_help="Pretrain stock nnU-Net networks without labels.")
app.add_typer(models_app, name="models", short_help="List, add and verify models.")

__all__ = ["app"]
