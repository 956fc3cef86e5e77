"""``demo``: the node at work, on series that ship with it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.errors import EXIT_FAILED, fail
from dicom_node.cli.segment_command import AnonymizedModel, Device, ForegroundModel


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for series, SEGs and overlays.")
    ] = Path("demo-out"),
    device: Annotated[Device, typer.Option("--device", help="auto takes a GPU where there is one.")] = Device.AUTO,
    foreground_model: ForegroundModel = None,
    anonymized_model: AnonymizedModel = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1.0, metavar="SECONDS", help="Give up waiting for results after this.")
    ] = 1800.0,
) -> None:
    """Start a node, send it three synthetic series as a PACS would, fetch the results.

    A head with its face, a head whose face was cut away, and a body CT; rendered from label maps, nothing is
    downloaded. The node listens on this machine only, and is gone when the demo ends. What came back lies in DIR.

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
        ("SERIES", "FOREGROUND mL", "ANONYMISED mL", "VERDICT", *(f"{stage} s" for stage in stages)),
        [
            (
                result.title,
                f"{result.report['foreground_ml']:.0f}",
                f"{result.report['anonymized_ml']:.1f}",
                f"{result.report['verdict']} ({result.report['probability']:.2f})",
                *(f"{result.report['timings_s'].get(stage, 0.0):.1f}" for stage in stages),
            )
            for result in results
        ],
        when_empty="no results",
    )
    typer.echo()
    for result in results:
        typer.echo(files_in_words(result.folder))
    if not all(result.is_seg_as_reported for result in results):
        fail("a SEG that came back does not hold the voxels that its report counts")
        raise typer.Exit(EXIT_FAILED)


def files_in_words(folder: Path) -> str:
    """What the demo left of one series."""
    if (folder / "seg.dcm").exists():
        return f"{folder}/: dicom/ (sent), seg.dcm and overlay.png (fetched), report.json"
    return f"{folder}/: dicom/ (sent), overlay.png, report.json; nothing was found, so there is no SEG"
