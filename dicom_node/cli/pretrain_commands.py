"""The commands ``pretrain``: pretrain a stock nnU-Net on a dataset with masks."""

from __future__ import annotations

from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from dicom_node.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, fail

pretrain_app = typer.Typer(no_args_is_help=True, help="Pretrain stock nnU-Net networks without labels.")


class Device(StrEnum):
    """Where to train."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """Numbers that the network computes with."""

    AUTO = "auto"
    BF16 = "bf16"
    FP32 = "fp32"


class Variant(StrEnum):
    """Versions of Volume Fusion."""

    GRID = "grid"
    BOXES = "boxes"


class Importance(StrEnum):
    """How AnatoMask finds hard blocks."""

    NORMALIZED = "normalized"
    RAW = "raw"


DatasetFolder = Annotated[
    Path,
    typer.Argument(metavar="DATASET", exists=True, file_okay=False, help="Folder that dicom-node dataset wrote."),
]
RunFolder = Annotated[
    Path, typer.Option("--output", "-o", metavar="RUN", file_okay=False, help="Folder for the checkpoint and the log.")
]
Preset = Annotated[str | None, typer.Option("--preset", help="ResEncL (default), Plain, small-residual or small.")]
Plans = Annotated[
    Path | None,
    typer.Option("--plans", metavar="FILE", exists=True, dir_okay=False, help="nnU-Net's plans of a target dataset."),
]
Configuration = Annotated[str, typer.Option("--configuration", help="Of the plans.")]
Spacing = Annotated[
    tuple[float, float, float] | None,
    typer.Option("--spacing", metavar="MM MM MM", help="Voxel size: slice, row, column; default: that of the plans."),
]
Patch = Annotated[
    tuple[int, int, int] | None,
    typer.Option("--patch", metavar="N N N", help="Voxels of a patch; default: that of the plans."),
]
Batch = Annotated[int | None, typer.Option("--batch", min=1, help="Patches in a step, over all devices.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Length of the run.")]
Hours = Annotated[
    float | None, typer.Option("--hours", min=0.001, help="Length of the run, by measured speed; default: 24.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same run.")]
Devices = Annotated[int, typer.Option("--devices", min=1, max=64, help="GPUs (or processes on the CPU).")]
DeviceOption = Annotated[Device, typer.Option("--device", help="auto uses GPUs if there are any.")]
PrecisionOption = Annotated[Precision, typer.Option("--precision", help="auto: bf16 on GPUs that have it, else fp32.")]
Workers = Annotated[
    int, typer.Option("--workers", min=0, max=64, metavar="N", help="Processes that prepare and load, for each device.")
]
NoMasks = Annotated[bool, typer.Option("--no-masks", help="The published method, blind to body and altered voxels.")]
Prepared = Annotated[
    Path | None,
    typer.Option("--prepared", metavar="FOLDER", file_okay=False, help="Prepared volumes; default: DATASET/prepared."),
]
Checkpoint = Annotated[float, typer.Option("--checkpoint-minutes", min=0, help="Minutes between saved states.")]
LearningRate = Annotated[
    float | None, typer.Option("--learning-rate", min=1e-8, help="At its highest; default: as published.")
]


@pretrain_app.command("volume-fusion", short_help="Let a network tell by how much two crops were blended.")
def volume_fusion(
    dataset: DatasetFolder,
    output: RunFolder,
    variant: Annotated[
        Variant, typer.Option("--variant", help="The journal paper's grid, or the preprint's boxes.")
    ] = Variant.GRID,
    preset: Preset = None,
    plans: Plans = None,
    configuration: Configuration = "3d_fullres",
    spacing: Spacing = None,
    patch: Patch = None,
    batch: Batch = None,
    steps: Steps = None,
    hours: Hours = None,
    seed: Seed = 0,
    learning_rate: LearningRate = None,
    no_masks: NoMasks = False,
    devices: Devices = 1,
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = Precision.AUTO,
    workers: Workers = 2,
    prepared: Prepared = None,
    checkpoint_minutes: Checkpoint = 10.0,
) -> None:
    """Pretrain encoder and decoder with Volume Fusion.

    Crops of a volume are blended in the cells of a grid, and the network tells by how much. Patches show the body; air
    and altered voxels are in no loss. RUN then holds checkpoint_final.pth for nnU-Net's -pretrained_weights, its plans,
    card.md, config.yaml, log.csv, volumes.json, pictures and TensorBoard files. The same command resumes a run.

    \b
    Example:
      dicom-node pretrain volume-fusion heads -o run --plans nnUNetPlans.json --hours 24
    """
    options = _given(variant=str(variant), learning_rate=learning_rate)
    _run("volume-fusion", options, locals())


@pretrain_app.command("anatomask", short_help="Hide blocks of the body, and let a network restore the hard ones.")
def anatomask(
    dataset: DatasetFolder,
    output: RunFolder,
    importance: Annotated[
        Importance, typer.Option("--importance", help="Compare like with like, or as the released code does.")
    ] = Importance.NORMALIZED,
    block: Annotated[
        tuple[int, int, int] | None,
        typer.Option("--block", metavar="N N N", help="Voxels of a block; default: the network's stride."),
    ] = None,
    preset: Preset = None,
    plans: Plans = None,
    configuration: Configuration = "3d_fullres",
    spacing: Spacing = None,
    patch: Patch = None,
    batch: Batch = None,
    steps: Steps = None,
    hours: Hours = None,
    seed: Seed = 0,
    learning_rate: LearningRate = None,
    no_masks: NoMasks = False,
    devices: Devices = 1,
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = Precision.AUTO,
    workers: Workers = 2,
    prepared: Prepared = None,
    checkpoint_minutes: Checkpoint = 10.0,
) -> None:
    """Pretrain the encoder with AnatoMask.

    Blocks of the body are hidden, and the network restores those that its own average restores worst. Altered voxels
    are in no loss. RUN then holds the same as of volume-fusion; the same command resumes a run.

    \b
    Example:
      dicom-node pretrain anatomask heads -o run --plans nnUNetPlans.json --hours 24
    """
    options = _given(importance=str(importance), block=block, learning_rate=learning_rate)
    _run("anatomask", options, locals())


def _given(**values: Any) -> dict[str, Any]:  # noqa: ANN401 - of the options
    return {key: value for key, value in values.items() if value is not None}


def _run(method: str, options: dict[str, Any], given: dict[str, Any]) -> None:
    """Pretrain, and turn named errors into one line and an exit code."""
    try:
        from pretraining.errors import PretrainingError, Refused, StoppedError
        from pretraining.run import pretrain

        import_module("tensorboard")  # the run needs it later
    except ModuleNotFoundError as error:
        fail(f"{error.name} is not installed; pretraining needs: pip install 'dicom-node[pretraining]'")
        raise typer.Exit(EXIT_USAGE) from None
    import dicom_node
    from dicom_node.cli.progress import growing_bar

    try:
        commands = pretrain(
            _request(method, options, given),
            lambda line: typer.echo(line, err=True),
            made_with=f"dicom-node {dicom_node.__version__}",
            preparing=lambda: growing_bar("preparing volumes"),
        )
    except StoppedError as stopped:
        typer.echo(str(stopped), err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except PretrainingError as error:
        fail(str(error))
        raise typer.Exit(EXIT_USAGE if isinstance(error, Refused) else EXIT_FAILED) from None
    typer.echo(f"{given['output']} has the checkpoint and card.md. Fine-tune, with your dataset's number for TARGET:")
    for command in commands:
        typer.echo(f"  {command}")


def _request(method: str, options: dict[str, Any], given: dict[str, Any]) -> Any:  # noqa: ANN401
    from pretraining.devices import DeviceChoice
    from pretraining.devices import Precision as Numbers
    from pretraining.request import Request

    return Request(
        method,
        given["dataset"],
        given["output"],
        options,
        given["preset"],
        given["plans"],
        given["configuration"],
        spacing_mm=given["spacing"],
        patch_size=given["patch"],
        batch_size=given["batch"],
        n_steps=given["steps"],
        hours=given["hours"],
        seed=given["seed"],
        use_masks=not given["no_masks"],
        n_devices=given["devices"],
        device=DeviceChoice(given["device"]),
        precision=Numbers(given["precision"]),
        workers=given["workers"],
        prepared=given["prepared"],
        checkpoint_s=60 * given["checkpoint_minutes"],
    )
