"""The command ``dataset``: turn segmented folders into datasets with both masks."""

from __future__ import annotations

import re
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED

_EXAMPLES = 3  # results that a line of refusals names


class Masks(StrEnum):
    """How nnssl is told of the masks."""

    DOCUMENTED = "documented"
    COMPAT = "compat"
    ANON_ONLY = "anon-only"


def dataset(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE", exists=True, file_okay=False, help="Folders that segment wrote.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", file_okay=False, help="Folder for the dataset.")
    ],
    layout: Annotated[
        str, typer.Option("--layout", metavar="LIST", help="Any of nnssl, nnunet and openmind, with commas.")
    ] = "nnssl,nnunet,openmind",
    images: Annotated[
        list[Path] | None,
        typer.Option(
            "--images",
            metavar="PATH",
            exists=True,
            help="Where the segmented images are now, if not where segment found them; can be repeated.",
        ),
    ] = None,
    masks: Annotated[
        Masks,
        typer.Option("--masks", help="Masks for nnssl: documented keys, swapped for its defect, or only one mask."),
    ] = Masks.DOCUMENTED,
    number: Annotated[int, typer.Option("--number", min=1, max=999, help="Number of the dataset.")] = 901,
    name: Annotated[str, typer.Option("--name", help="Name of the dataset: letters and digits.")] = "Node",
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, metavar="N", help="Processes.")] = 1,
) -> None:
    """Turn folders that segment wrote into a dataset with both masks, for pretraining and training.

    OUT/volumes/<id>/ holds each volume once: image.nii.gz, altered.nii.gz (1: altered), background.nii.gz (1: air) and
    labels.nii.gz. The layouts OUT/nnssl, OUT/nnunet and OUT/openmind are JSON, CSV and relative links.
    OUT/manifest.json and OUT/index.html say what is in the dataset, and what was refused and why. Images are found by
    their contents. The same input gives the same files; run the same command again to resume.

    Exit code 0: every volume is in the dataset. 3: some were refused, each with its reason. 2: bad usage.

    \b
    Example:
      dicom-node segment /data/heads -o results
      dicom-node dataset results -o heads --name Heads --workers 4
    """
    from dicom_node.cli.progress import growing_bar
    from dicom_node.datasets.layouts import Layout, MaskMode, Name
    from dicom_node.datasets.run import Options, make_dataset

    try:
        layouts = tuple(dict.fromkeys(Layout(part.strip()) for part in layout.split(",")))
    except ValueError as error:
        raise typer.BadParameter(f"{layout}: choose from {', '.join(Layout)}", param_hint="--layout") from error
    if not re.fullmatch(r"[A-Za-z0-9]+", name):
        raise typer.BadParameter(f"{name!r}: only letters and digits", param_hint="--name")
    options = Options(layouts, MaskMode(masks), Name(number, name), workers)
    try:
        with growing_bar("writing volumes") as (begin, advance):
            manifest = make_dataset(sources, images or (), output, options, on_begin=begin, on_task=advance)
    except KeyboardInterrupt:
        typer.echo("Interrupted. Run the same command to resume.", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    for code, n in Counter(one["code"] for one in manifest["refused"]).most_common():
        some = [one for one in manifest["refused"] if one["code"] == code]
        names = ", ".join(one["result"] for one in some[:_EXAMPLES]) + (" …" if n > _EXAMPLES else "")
        typer.echo(f"refused: {n} × {code} ({names}): {some[0]['reason']}", err=True)
    for note in manifest["notes"]:
        typer.echo(f"note: {note}", err=True)
    typer.echo(
        f"{manifest['n_volumes']} volumes of {manifest['n_subjects']} subjects in {output} ({manifest['n_new']} new), "
        f"{manifest['n_refused']} refused; see index.html"
    )
    if manifest["refused"]:
        raise typer.Exit(EXIT_FAILED)
