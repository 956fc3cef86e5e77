"""The commands ``store``: check that stored objects are unchanged."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, fail
from dicom_node.cli.options import ConfigOption, JsonOption, open_existing_store, read_settings
from dicom_node.cli.tables import shown, write_json
from dicom_node.json_values import plain

if TYPE_CHECKING:
    from dicom_node.store.integrity import Finding

store_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Check the objects on disk.",
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
                            store.integrity.set_aside(finding.path.stem)
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
