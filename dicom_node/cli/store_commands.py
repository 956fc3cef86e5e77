"""The commands ``store``: check that stored objects are unchanged, and move the index or the objects elsewhere."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, fail
from dicom_node.cli.no_store import NoStoreError
from dicom_node.cli.options import ConfigOption, JsonOption, open_existing_store, read_settings
from dicom_node.cli.people import ByOption, person
from dicom_node.cli.tables import shown, write_json
from dicom_node.json_values import plain

if TYPE_CHECKING:
    from dicom_node.settings import Settings
    from dicom_node.store.integrity import Finding
    from dicom_node.store.moving_objects import ObjectsMoved
    from dicom_node.store.objects.object_store import Listed

_MOVES = "--to, --objects-to"

store_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Check the objects; move the index to another database, or the objects to a bucket or folder.",
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


@store_app.command("remove-extra")
def remove_extra(
    config: ConfigOption = None,
    older_than: Annotated[
        float,
        typer.Option("--older-than", min=1.0, metavar="HOURS", help="Leave objects that were stored less long ago."),
    ] = 24.0,
    is_real: Annotated[
        bool, typer.Option("--delete", help="Delete them for good; without this they are only listed.")
    ] = False,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the objects that no row of the index names, and with --delete remove them, while the node keeps working.

    After the index was restored from a backup, or PostgreSQL failed over to a server that lagged behind, these may be
    instances that were acknowledged: have them sent again first. More objects than the index names are never removed.

    \b
    Examples:
      dicom-node store remove-extra -c config/node.yaml
      dicom-node store remove-extra -c config/node.yaml --older-than 72 --delete
    """
    from dicom_node.store.integrity import N_FOLDERS

    who = person(by)
    with open_existing_store(read_settings(config)) as store:
        found: list[Listed] = []
        try:
            with _shown(range(N_FOLDERS)) as numbers:
                for number in numbers:
                    found += store.extras.find(number, min_age_s=older_than * 3600.0)
            n_removed = store.extras.remove(found, by=who, now=store.now()) if is_real and found else 0
        except KeyboardInterrupt:
            fail("interrupted; the same command goes on")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    n_objects, n_bytes = len({one.digest for one in found}), sum(one.n_bytes for one in found)
    if as_json:
        numbers_of = {"n_objects": n_objects, "n_bytes": n_bytes, "n_removed": n_removed}
        write_json({**numbers_of, "objects": [plain(one) for one in found]})
    else:
        for one in found:
            typer.echo(f"extra: {shown(one.location)}")
        done = f"{n_removed} removed" if is_real else "--delete removes them"
        said = (
            f"{n_objects} objects, {n_bytes / 1e9:.3f} GB, are older than {older_than:g} h and in no row of the index"
        )
        typer.echo(f"{said}; {done}" if found else said)
    if is_real and n_removed < n_objects:
        fail("some are in a row of the index now, or could not be removed and are tried again by the node")
        raise typer.Exit(EXIT_FAILED)


@store_app.command("migrate")
def migrate(
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="URL",
            envvar="DICOM_NODE_MIGRATE_TO",
            help="An empty database, `postgresql://user:password@host/database`, or `sqlite` for the file in "
            "node.data_dir. Other users of this machine see a command's options: a password is better in the variable.",
        ),
    ] = None,
    objects_to: Annotated[
        str | None,
        typer.Option(
            "--objects-to",
            metavar="URL|FOLDER",
            help="An empty prefix of a bucket, `s3://bucket/prefix`, reached as the settings `objects` say; or the "
            "data_dir in which the objects are to be files.",
        ),
    ] = None,
    config: ConfigOption = None,
    start_again: Annotated[
        bool,
        typer.Option(
            "--start-again",
            help="Empty a database to which a move has not finished, and begin anew; compare all objects again.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy the index to another database, or the objects to a bucket or a folder, and compare both sides.

    The node must not run, on any host. What is old is only read. An interrupted move continues when the command is
    typed again; until it is finished and both sides are alike, no node uses the new database or the new objects.
    Objects that are missing or damaged in the old place are listed, and the rest is moved (exit code 3).

    \b
    Examples:
      dicom-node store migrate -c config/node.yaml --to postgresql://node@db.example.org/node
      dicom-node store migrate -c config/node.yaml --to sqlite
      dicom-node store migrate -c config/node.yaml --objects-to s3://bucket/prefix
      dicom-node store migrate -c config/node.yaml --objects-to data
    """
    if (to is None) == (objects_to is None):
        raise typer.BadParameter("name one of the two, and the other one in a run of its own", param_hint=_MOVES)
    settings = read_settings(config)
    data_dir = settings.node.data_dir.absolute()
    if settings.node.database_url is None and not data_dir.is_dir():
        raise NoStoreError(data_dir)
    try:
        if objects_to is not None:
            _migrate_objects(settings, objects_to, start_again=start_again, as_json=as_json)
        else:
            _migrate_index(settings, str(to), start_again=start_again, as_json=as_json)
    except KeyboardInterrupt:
        fail("interrupted; the same command resumes")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _migrate_index(settings: Settings, to: str, *, start_again: bool, as_json: bool) -> None:
    from dicom_node.store.moving import move_index, sqlite_index

    data_dir = settings.node.data_dir.absolute()
    here = settings.node.database_url or sqlite_index(data_dir)
    there = sqlite_index(data_dir) if to == "sqlite" else to
    report = _report_rows if sys.stderr.isatty() and not as_json else lambda *_: None
    sums = move_index(data_dir, here, there, start_again=start_again, report=report)
    if as_json:
        write_json({table: plain(each) for table, each in sums.items()})
        return
    for table, each in sums.items():
        typer.echo(f"{table}: {each.n_rows} rows, digest {each.digest[:16]}")
    next_step = "remove node.database_url" if to == "sqlite" else "set node.database_url to the new database"
    typer.echo(f"{sum(each.n_rows for each in sums.values())} rows are alike on both sides; {next_step}, then start")


def _migrate_objects(settings: Settings, to: str, *, start_again: bool, as_json: bool) -> None:
    from dicom_node.app.wiring import bucket_place, objects_place
    from dicom_node.store.errors import MoveTargetError
    from dicom_node.store.moving import sqlite_index
    from dicom_node.store.moving_objects import move_objects

    data_dir = settings.node.data_dir.absolute()
    here = objects_place(settings) or data_dir
    there = bucket_place(settings, to) if "://" in to else Path(to).absolute()
    if isinstance(there, Path) and there != data_dir and settings.node.database_url is None:
        raise MoveTargetError(
            str(there),
            "is not node.data_dir, and the index is a file in that",
            f"name {data_dir}, or move the index to PostgreSQL first",
        )
    report = _report_objects if sys.stderr.isatty() and not as_json else lambda *_: None
    index_url = settings.node.database_url or sqlite_index(data_dir)
    moved = move_objects(data_dir, index_url, here, there, start_again=start_again, report=report)
    if as_json:
        write_json(plain(moved))
    else:
        for finding in moved.not_copied:
            typer.echo(_line(finding))
        steps = [] if here == data_dir else ["remove node.objects_url"]
        if not isinstance(there, Path):
            steps = [f"set node.objects_url to {there.url}"]
        elif there != data_dir:
            steps.append(f"set node.data_dir to {there}")
        left = f"; {len(moved.not_copied)} could not be copied" if moved.not_copied else ""
        typer.echo(
            f"{moved.n_objects} objects are alike on both sides ({moved.n_copied} copied, "
            f"{moved.n_bytes_read / 1e9:.3f} GB compared){left}; {' and '.join(steps)}, then start"
        )
    if moved.not_copied:
        raise typer.Exit(EXIT_FAILED)


def _report_rows(table: str, n_rows: int) -> None:
    typer.echo(f"\r{table}: {n_rows} rows copied\x1b[K", err=True, nl=False)


def _report_objects(n_folders: int, moved: ObjectsMoved) -> None:
    text = f"{n_folders} of 256 folders, {moved.n_objects} objects, {moved.n_bytes_read / 1e9:.3f} GB compared"
    typer.echo(f"\r{text}\x1b[K", err=True, nl=False)


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
