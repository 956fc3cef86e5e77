"""The command ``demo``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dicom_node.cli.errors import EXIT_FAILED, fail
from dicom_node.cli.segment_command import AnonymizedModel, Device, ForegroundModel


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for series, SEGs and overlays.")
    ] = Path("demo-out"),
    device: Annotated[Device, typer.Option("--device", help="auto uses a GPU if there is one.")] = Device.AUTO,
    foreground_model: ForegroundModel = None,
    anonymized_model: AnonymizedModel = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1.0, metavar="SECONDS", help="Longest wait for the results.")
    ] = 1800.0,
) -> None:
    """Start a node, send it three synthetic series as a PACS would, and fetch the results.

    The series show a head with its face, a head with its face cut away, and a body; all are rendered here, nothing
    is downloaded. The node listens on this machine only and stops when the demo ends. The results are in DIR.

    \b
    Example:
      dicom-node demo --out demo-out
    """
    from dicom_node.cli.tables import write_table
    from dicom_node.demo.errors import DemoError
    from dicom_node.demo.run import run_demo

    started = time.monotonic()
    chosen = {"foreground": foreground_model, "anonymized": anonymized_model}
    models = {role: folder for role, folder in chosen.items() if folder is not None}

    def say(line: str) -> None:
        typer.echo(f"{time.monotonic() - started:6.1f} s  {line}")

    try:
        results = run_demo(out, device=device.value, timeout_s=timeout_s, say=say, models=models)
    except DemoError as error:
        fail(str(error))
        raise typer.Exit(EXIT_FAILED) from error
    typer.echo()
    stages = list(dict.fromkeys(stage for result in results for stage in result.report["timings_s"]))
    write_table(
        ("SERIES", "FOUND", "FOREGROUND mL", "ANONYMISED mL", *(f"{stage} s" for stage in stages)),
        [
            (
                result.title,
                finding_in_words(result.report),
                f"{result.report['foreground_ml']:.0f}",
                f"{result.report['anonymized_ml']:.1f}",
                *(f"{result.report['timings_s'].get(stage, 0.0):.1f}" for stage in stages),
            )
            for result in results
        ],
        when_empty="no results",
    )
    typer.echo("\nWhat it left:")
    for result in results:
        typer.echo(f"  {files_in_words(result.folder)}")
    typer.echo("\nNext:")
    for line in next_steps([result.folder for result in results], program=sys.argv[0]):
        typer.echo(f"  {line}")
    if not all(result.is_seg_as_reported for result in results):
        fail("a fetched SEG has another number of voxels than its report")
        raise typer.Exit(EXIT_FAILED)


def finding_in_words(report: Mapping[str, Any]) -> str:
    """Return the verdict in words, with its probability."""
    return f"{report['verdict'].replace('_', ' ')} ({report['probability']:.2f})"


def files_in_words(folder: Path) -> str:
    """Return a line that lists the files of one series."""
    if (folder / "seg.dcm").exists():
        return f"{folder}/: dicom/ (sent), seg.dcm and overlay.png (fetched), report.json"
    return f"{folder}/: dicom/ (sent), overlay.png, report.json; nothing was found, so there is no SEG"


def next_steps(folders: Sequence[Path], *, program: str) -> Iterator[str]:
    """Yield lines that say what to look at and what to type, with the program's name as it was called."""
    command = program if Path(program).name == "dicom-node" else "dicom-node"
    pictures = [folder / "overlay.png" for folder in folders]
    yield f"see what was found:    {' '.join(map(str, pictures))}"
    yield f"your own images:       {command} segment STUDY_FOLDER -o results"
    yield f"a node next to a PACS: {command} serve -c config/node.yaml   (docs/configure.md says what to set)"
