"""The commands ``store``: check that stored objects are unchanged, and move the index to another database."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, fail
from dicom_node.cli.no_store import NoStoreError
from dicom_node.cli.options import ConfigOption, JsonOption, open_existing_store, read_settings
from dicom_node.cli.tables import shown, write_json
from dicom_node.json_values import plain

if TYPE_CHECKING:
    from dicom_node.store.integrity import Finding

store_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Check the objects on disk; move the index to another database.",
)


@store_app.command("verify")
def verify(
    config: ConfigOption = None,
    max_mb_per_s: Annotated[
        float | None,
        typer.Option("--max-mb-per-s", min=0.001, metavar="MB", help="Read no faster than this, on average."),
    ] = None,
    start: Annotated[
        str,
        typer.Option("--from", metavar="XX", help="Folder of objects to begin with, 00 to ff, to resume a run."),
    ] = "00",
    set_aside: Annotated[
        bool,
        typer.Option(
            "--set-aside",
            help="Rename damaged objects to .damaged: they are no longer served, and the same instance sent again "
            "replaces them.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Read every object again and compare it with its SHA-256 and with the index, while the node keeps working.

    Lists objects that are missing or damaged (exit code 3), and extra files that no row of the index names.

    \b
    Examples:
      dicom-node store verify -c config/node.yaml
      dicom-node store verify -c config/node.yaml --max-mb-per-s 20 --set-aside
    """
    from dicom_node.store.integrity import N_FOLDERS, Fault, Pace, Tally

    first = _folder_number(start)
    tally, pace = Tally(), Pace(None if max_mb_per_s is None else max_mb_per_s * 1e6)
    findings: list[Finding] = []
    number = first
    with open_existing_store(read_settings(config)) as store:
        try:
            with _shown(range(first, N_FOLDERS)) as numbers:
                for number in numbers:
                    for finding in store.integrity.verify_folder(number, pace, tally):
                        findings.append(finding)
                        if set_aside and finding.fault is Fault.DAMAGED:
                            store.integrity.set_aside(finding.digest)
                        if not as_json:
                            typer.echo(_line(finding))
        except KeyboardInterrupt:
            fail(f"interrupted; `store verify --from {number:02x}` resumes")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    counts = Counter(finding.fault for finding in findings)
    if as_json:
        write_json({"n_objects": tally.n_objects, "n_bytes": tally.n_bytes, "findings": [plain(f) for f in findings]})
    else:
        found = ", ".join(f"{counts[fault]} {fault.value}" for fault in Fault)
        typer.echo(f"{tally.n_objects} objects read, {tally.n_bytes / 1e9:.3f} GB: {found}")
    if counts[Fault.MISSING] or counts[Fault.DAMAGED]:
        raise typer.Exit(EXIT_FAILED)


@store_app.command("migrate")
def migrate(
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="URL",
            envvar="DICOM_NODE_MIGRATE_TO",
            help="An empty database, `postgresql://user:password@host/database`, or `sqlite` for the file in "
            "node.data_dir. Other users of this machine see a command's options: a password is better in the variable.",
        ),
    ],
    config: ConfigOption = None,
    start_again: Annotated[
        bool, typer.Option("--start-again", help="Empty a database to which a move has not finished, and begin anew.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy the index to another database, and compare both; images and results stay where they are.

    The node must not run. The old database is only read. An interrupted move continues when the command is typed
    again; until it is finished and both sides have the same rows, no node opens the new database.

    \b
    Examples:
      dicom-node store migrate -c config/node.yaml --to postgresql://node@db.example.org/node
      dicom-node store migrate -c config/node.yaml --to sqlite
    """
    from dicom_node.store.moving import move_index, sqlite_index

    settings = read_settings(config)
    data_dir = settings.node.data_dir.absolute()
    if settings.node.database_url is None and not data_dir.is_dir():
        raise NoStoreError(data_dir)
    here = settings.node.database_url or sqlite_index(data_dir)
    there = sqlite_index(data_dir) if to == "sqlite" else to
    report = _report_rows if sys.stderr.isatty() and not as_json else lambda *_: None
    try:
        sums = move_index(data_dir, here, there, start_again=start_again, report=report)
    except KeyboardInterrupt:
        fail("interrupted; the same command resumes")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json:
        write_json({table: plain(each) for table, each in sums.items()})
        return
    for table, each in sums.items():
        typer.echo(f"{table}: {each.n_rows} rows, digest {each.digest[:16]}")
    next_step = "remove node.database_url" if to == "sqlite" else "set node.database_url to the new database"
    typer.echo(f"{sum(each.n_rows for each in sums.values())} rows are alike on both sides; {next_step}, then start")


def _report_rows(table: str, n_rows: int) -> None:
    typer.echo(f"\r{table}: {n_rows} rows copied\x1b[K", err=True, nl=False)


def _folder_number(text: str) -> int:
    if not re.fullmatch(r"[0-9a-fA-F]{2}", text):
        raise typer.BadParameter(f"{text!r}: expected two hexadecimal digits, 00 to ff", param_hint="--from")
    return int(text, 16)


def _shown(numbers: range) -> AbstractContextManager[Iterable[int]]:
    """Return the numbers, with a progress bar on a terminal."""
    if sys.stderr.isatty():
        return typer.progressbar(numbers, file=sys.stderr, label="folders of objects")
    return nullcontext(numbers)


def _line(finding: Finding) -> str:
    instances = f" (instance {', '.join(finding.sop_instance_uids)})" if finding.sop_instance_uids else ""
    return f"{finding.fault.value}: {shown(finding.path)} {finding.reason}{instances}"
