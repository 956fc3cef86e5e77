"""What a user asks for, and what follows from it: the network's plan, how volumes are prepared, the run's config."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pretraining.devices import DeviceChoice, Precision
from pretraining.errors import SettingRefused
from pretraining.networks import CONFIGURATION, NetworkPlan, plan_from_preset, read_plan
from pretraining.prepare import Normalisation, PrepareSettings

HOURS = 24.0
DEFAULT_PRESET = "ResEncL"


@dataclass(frozen=True, slots=True)
class Request:
    """A run as its user asks for it.

    Attributes
    ----------
    options
        Settings of the method, by the names of its ``Options``.
    batch_size
        Over all processes; None: as the plans say.
    n_steps, hours
        Length of the run; at most one of them. By default 24 hours.
    n_devices
        Processes on this machine, one for each GPU. Under ``torchrun`` it does not count.
    workers
        Loader processes of each of them.
    """

    method: str
    dataset: Path
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None
    plans: Path | None = None
    configuration: str = CONFIGURATION
    spacing_mm: tuple[float, float, float] | None = None
    patch_size: tuple[int, int, int] | None = None
    batch_size: int | None = None
    n_steps: int | None = None
    hours: float | None = None
    seed: int = 0
    use_masks: bool = True
    n_devices: int = 1
    device: DeviceChoice = DeviceChoice.AUTO
    precision: Precision = Precision.AUTO
    workers: int = 2
    prepared: Path | None = None
    checkpoint_s: float = 600.0

    def __post_init__(self) -> None:
        if self.n_steps is not None and self.hours is not None:
            raise SettingRefused("--hours", "cannot be used together with --steps; one of them sets the length")
        if self.plans is not None and self.preset is not None:
            raise SettingRefused("--preset", "cannot be used together with --plans; one of them names the network")


def plan_of(request: Request) -> NetworkPlan:
    """Return the network's plan, with the patch, voxel size and batch that the user wants.

    Raises
    ------
    PlansError, SettingRefused
        The plans cannot be used, or do not go with patch, batch or devices.
    """
    if request.plans is None:
        plan = plan_from_preset(request.preset or DEFAULT_PRESET)
    else:
        plan = read_plan(request.plans, request.configuration)
    plans: dict[str, Any] = copy.deepcopy(dict(plan.plans))
    wanted: dict[str, Any] = plans["configurations"][plan.configuration]
    if request.patch_size is not None:
        wanted["patch_size"] = list(request.patch_size)
    if request.spacing_mm is not None:
        wanted["spacing"] = list(request.spacing_mm)
    if request.batch_size is not None:
        wanted["batch_size"] = request.batch_size
    plan = replace(plan, plans=plans)
    if plan.n_channels != 1:
        raise SettingRefused("--plans", f"have {plan.n_channels} channels; volumes of a dataset have one")
    for side, stride in zip(plan.patch_size, plan.total_stride, strict=True):
        if side % stride:
            stride_told = " x ".join(map(str, plan.total_stride))
            raise SettingRefused("--patch", f"sides must be multiples of {stride_told}, the network's stride")
    return plan


def prepare_settings(plan: NetworkPlan, *, use_masks: bool) -> PrepareSettings:
    """Return how volumes are prepared for a plan."""
    first, second, third = (int(axis) for axis in plan.plans.get("transpose_forward", (0, 1, 2)))
    return PrepareSettings(plan.spacing_mm, (first, second, third), use_masks, _normalisation(plan))


def config_of(request: Request, plan: NetworkPlan, options: Any, digest: str) -> dict[str, Any]:  # noqa: ANN401
    """Return all that decides the result of a run, in plain values; the same config continues a run."""
    length = {"steps": request.n_steps} if request.n_steps is not None else {"hours": request.hours or HOURS}
    network = {"plans": plan.plans.get("plans_name"), "configuration": plan.configuration}
    return {
        "method": request.method,
        "options": {key: _plain(value) for key, value in asdict(options).items()},
        "network": {**network, "architecture": _plain(dict(plan.architecture))},
        "patch": list(plan.patch_size),
        "spacing_mm": list(plan.spacing_mm),
        "normalisation": asdict(_normalisation(plan)),
        "batch": plan.batch_size,
        **length,
        "seed": request.seed,
        "masks": request.use_masks,
        "precision": str(request.precision),
        "volumes_sha256": digest,
    }


def _normalisation(plan: NetworkPlan) -> Normalisation:
    if plan.settings["normalization_schemes"][0] != "CTNormalization":
        return Normalisation()
    numbers = plan.plans["foreground_intensity_properties_per_channel"]["0"]
    return Normalisation(
        float(numbers["percentile_00_5"]),
        float(numbers["percentile_99_5"]),
        float(numbers["mean"]),
        max(float(numbers["std"]), 1e-8),
    )


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)
