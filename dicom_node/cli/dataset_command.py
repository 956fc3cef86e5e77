"""The command ``dataset``: turn segmented folders into datasets with both masks."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.cluster_options import ClusterCa, ClusterCert, ClusterKey, ClusterOption, ClusterPlain, cluster_of
from dicom_node.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED
from dicom_node.cli.options import ConfigOption


class Studies(StrEnum):
    """Which studies of a node."""

    CLEARED = "cleared"


class Masks(StrEnum):
    """How nnssl is told of the masks."""

    DOCUMENTED = "documented"
    COMPAT = "compat"
    ANON_ONLY = "anon-only"


def dataset(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", file_okay=False, help="Folder for the dataset.")
    ],
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SOURCE", exists=True, file_okay=False, help="Folders that segment wrote."),
    ] = None,
    studies: Annotated[
        Studies | None, typer.Option("--studies", help="Instead of folders: the studies of a node that may leave.")
    ] = None,
    config: ConfigOption = None,
    project: Annotated[
        str | None, typer.Option("--project", metavar="NAME", help="With --studies: as in `export`.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", metavar="FILE", help="With --studies: as in `export`.")
    ] = None,
    cohort: Annotated[
        Path | None,
        typer.Option(
            "--cohort", metavar="FILE", help="With --studies: Study Instance UIDs, one per line; default: all cleared."
        ),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option("--profile", metavar="FILE", help="With --studies: YAML instead of the built-in profile."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; compare the dataset in OUT with its manifest.")
    ] = False,
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
    cluster: ClusterOption = None,
    cluster_ca: ClusterCa = None,
    cluster_cert: ClusterCert = None,
    cluster_key: ClusterKey = None,
    cluster_plain: ClusterPlain = False,
) -> None:
    """Turn folders that segment wrote, or cleared studies of a node, into a dataset with both masks for training.

    OUT/volumes/<id>/ holds each volume once: image.nii.gz, altered.nii.gz (1: altered), background.nii.gz (1: air) and
    labels.nii.gz. The layouts OUT/nnssl, OUT/nnunet and OUT/openmind are JSON, CSV and relative links.
    OUT/manifest.json and OUT/index.html say what is in the dataset, and what was refused and why. Images are found by
    their contents. The same input gives the same files; run the same command again to resume.

    --studies cleared takes the studies that `studies list` shows as cleared, with the masks that the node found. That
    is an export: the evidence is compared again when each study is published, and `exports list` shows it. Subjects
    have the names that `export` gives to patients with the same project and key.

    --check reads OUT again: every file is as it was written, every link leads somewhere, and what nnssl made of it in
    $nnssl_preprocessed has the masks in their places. With -c, studies that are withdrawn since are named too.

    Exit code 0: every volume is in the dataset. 3: some were refused, or studies of the cohort stayed. 2: bad usage.

    \b
    Examples:
      dicom-node segment /data/heads -o results
      dicom-node dataset results -o heads --name Heads --workers 4
      dicom-node dataset results -o heads --cluster local:4
      dicom-node dataset --check -o heads
      dicom-node dataset --studies cleared -c config/node.yaml --project HEADS --key-file study.key -o heads
    """
    from dicom_node.cli.dataset_runs import check_again, from_folders, from_node
    from dicom_node.datasets.finishing import Options
    from dicom_node.datasets.layouts import Layout, MaskMode, Name

    if check:
        if sources or studies:
            raise typer.BadParameter("reads OUT only; leave sources out", param_hint="--check")
        if not check_again(output, config):
            raise typer.Exit(EXIT_FAILED)
        return
    try:
        layouts = tuple(dict.fromkeys(Layout(part.strip()) for part in layout.split(",")))
    except ValueError as error:
        raise typer.BadParameter(f"{layout}: choose from {', '.join(Layout)}", param_hint="--layout") from error
    if not re.fullmatch(r"[A-Za-z0-9]+", name):
        raise typer.BadParameter(f"{name!r}: only letters and digits", param_hint="--name")
    options = Options(layouts, MaskMode(masks), Name(number, name), workers)
    of_node = {"--project": project, "--key-file": key_file, "--cohort": cohort, "--profile": profile}
    try:
        if studies is None:
            if not sources:
                raise typer.BadParameter("name folders that segment wrote, or --studies cleared", param_hint="SOURCE")
            if unused := [one for one, given in of_node.items() if given is not None]:
                raise typer.BadParameter("is for --studies", param_hint=unused[0])
            given = cluster_of(cluster, cluster_ca, cluster_cert, cluster_key, may_be_plain=cluster_plain)
            is_whole = from_folders(sources, images or (), output, options, given)
        else:
            if cluster is not None:
                raise typer.BadParameter("is for folders; the studies of a node take --workers", param_hint="--cluster")
            if sources or images:
                raise typer.BadParameter("the studies come from the node; leave folders out", param_hint="--studies")
            if project is None or not project.strip() or key_file is None:
                raise typer.BadParameter("needs --project and --key-file, as export does", param_hint="--studies")
            is_whole = from_node(config, output, options, project.strip(), key_file, cohort=cohort, profile=profile)
    except KeyboardInterrupt:
        typer.echo("Interrupted. Run the same command to resume.", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if not is_whole:
        raise typer.Exit(EXIT_FAILED)
