"""The command ``segment``: segment folders, zips and NIfTI files without a server."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.cluster_options import (
    ClusterCa,
    ClusterCert,
    ClusterKey,
    ClusterOption,
    ClusterPlain,
    cluster_of,
)
from dicom_node.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, fail


class Device(StrEnum):
    """Where the models run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


ForegroundModel = Annotated[
    Path | None,
    typer.Option("--foreground-model", metavar="FOLDER", help="Instead of the built-in reference model."),
]
AnonymizedModel = Annotated[
    Path | None,
    typer.Option("--anonymized-model", metavar="FOLDER", help="Instead of the built-in reference model."),
]


def segment(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Folders, zip archives, DICOM or NIfTI files.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Folder for the results.")],
    device: Annotated[Device, typer.Option("--device", help="auto uses a GPU if there is one.")] = Device.AUTO,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, metavar="N", help="CPU threads; default: all cores.")
    ] = None,
    foreground_model: ForegroundModel = None,
    anonymized_model: AnonymizedModel = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also repeat what an earlier run finished.")] = False,
    cluster: ClusterOption = None,
    cluster_ca: ClusterCa = None,
    cluster_cert: ClusterCert = None,
    cluster_key: ClusterKey = None,
    cluster_plain: ClusterPlain = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show every stage, and a traceback for every failure.")
    ] = False,
) -> None:
    """Segment DICOM folders, zips and NIfTI files without a server.

    For every volume OUT/<name>/ holds foreground.nii.gz and anonymized.nii.gz on the source's grid, seg.dcm and
    sr.dcm (for DICOM), report.json and overlay.png; OUT/summary.json describes the whole run, and OUT/index.html
    shows it in a browser. <name> is the Series Instance UID or the NIfTI file's stem. Run the same command again to
    resume. Nothing is sent anywhere.

    Files are recognised by their content, not by their names. Folders are searched with subfolders and links, except
    hidden folders. Files that are not CT or MR images (reports, system files, other formats) are counted but not used.

    With --cluster, the workers of a Dask cluster do the work, one input at a time each, and write the same results.
    A worker with another release, other models or without the folders is refused by name; see docs/cluster.md.

    Exit code 0: every input has its result. 3: some input failed; the others have theirs.

    \b
    Examples:
      dicom-node segment /data/study -o results
      dicom-node segment head.nii.gz export.zip -o results --device cuda
      dicom-node segment /data/heads -o results --cluster local:4
    """
    from inference.threads import let_threads_sleep

    let_threads_sleep()  # before torch is imported below
    from dicom_node.cli.progress import rejected_lines
    from dicom_node.cli.segment_runs import WantedRun, segment_here, segment_on
    from dicom_node.cluster.errors import ClusterLostError
    from dicom_node.offline.item_results import Failure
    from dicom_node.offline.output import OutputFolder
    from dicom_node.offline.page import render_page
    from dicom_node.offline.run import summarise

    started_at = datetime.now(UTC)
    missing = [path for path in inputs if not path.exists()]
    if missing:
        raise typer.BadParameter(f"{missing[0]}: no such file or folder", param_hint="INPUT")
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output}: is a file, a folder is wanted", param_hint="--output")
    _set_up_logging(verbose=verbose)
    wanted = WantedRun(inputs, output, device.value, threads, foreground_model, anonymized_model, overwrite, verbose)
    given = cluster_of(cluster, cluster_ca, cluster_cert, cluster_key, may_be_plain=cluster_plain)
    try:
        survey, result, models = segment_here(wanted) if given is None else segment_on(given, wanted)
    except ClusterLostError as error:
        fail(str(error))
        raise typer.Exit(EXIT_FAILED) from error
    except KeyboardInterrupt:
        typer.echo("Interrupted. Run the same command to resume.", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    result.failures += [Failure(rejected.name, rejected.code, rejected.reason) for rejected in survey.failed]
    for line in rejected_lines(survey.failed):
        typer.echo(line, err=True)
    for code, number in Counter(rejected.code for rejected in survey.not_used).most_common():
        typer.echo(f"not used: {number} × {code}, listed in summary.json", err=True)
    summary = summarise(
        result, survey.not_used, models, inputs=inputs, started_at=started_at, ended_at=datetime.now(UTC)
    )
    folder = OutputFolder(output)
    folder.write_summary(summary)
    folder.write_page(render_page(summary))
    typer.echo(f"{summary['n_volumes']} volumes in {output}, {summary['n_failed']} failed")
    if result.failures:
        raise typer.Exit(EXIT_FAILED)


def _set_up_logging(*, verbose: bool) -> None:
    """Show log records only if verbose; otherwise progress and summary say everything."""
    if verbose:
        from dicom_node.logs import set_up_logging
        from dicom_node.settings import LogSettings

        set_up_logging(LogSettings(level="info"), process_name="segment")
    else:
        logging.getLogger().addHandler(logging.NullHandler())
