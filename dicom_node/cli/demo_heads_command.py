"""The command ``demo-heads``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo_heads(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", file_okay=False, help="Folder for the heads.")
    ],
    number: Annotated[int, typer.Option("--number", min=1, max=99, help="How many heads without labels.")] = 8,
) -> None:
    """Write synthetic heads as NIfTI files, to try segment, dataset and pretrain with.

    DIR/images has heads without labels, every second one without its face. DIR/nnUNet_raw/Dataset501_Brain is a small
    labelled dataset for nnU-Net, to fine-tune on. All are rendered here from one anatomy; nothing is downloaded. They
    show that commands work, and nothing else.

    \b
    Example:
      dicom-node demo-heads -o tutorial
    """
    from dicom_node.cli.progress import growing_bar
    from dicom_node.demo.heads import N_LABELLED, TARGET, write_heads

    with growing_bar("rendering heads") as (begin, advance):
        begin(number + N_LABELLED)
        write_heads(output, number, on_head=advance)
    typer.echo(f"{number} heads in {output / 'images'}, {N_LABELLED} with labels in {output / 'nnUNet_raw' / TARGET}")
